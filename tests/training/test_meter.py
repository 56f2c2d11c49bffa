"""Means and speeds between two looks at the device."""

import pytest

from loops import Hooks, batches, training
from maekit.errors import DataError
from maekit.training.loop import train


def test_train__a_dead_worker_is_explained():
    def dying():
        yield next(batches(0.0))
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    with pytest.raises(DataError, match="want of memory"):
        train(training(), dying(), Hooks(), None)
