import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from drawn import put, write_pictures
from maekit.data.listing import PathTable
from maekit.data.loader import (
    BatchPlan,
    DataConfig,
    StepSampler,
    Views,
    build_loader,
    epoch_order,
    in_order,
    index_batches,
)
from maekit.data.sources import ArraySource, FileSource
from maekit.data.transforms import AugmentConfig, EvalTransform, TrainTransform
from maekit.errors import ConfigError, DataError

ARRAY = ArraySource(
    Path("x.npy"), np.random.default_rng(0).integers(0, 255, (11, 12, 12, 3)).astype(np.uint8)
)


def batches(steps=range(6), workers=0, source=ARRAY, batch=4, micro=4, rank=0, world=1, seed=3):
    views = Views(source, TrainTransform((8, 8), AugmentConfig()), 3, 4, seed)
    sampler = StepSampler(len(source), BatchPlan(batch, micro), seed, steps, rank, world)
    return list(build_loader(views, sampler, workers))


def same(one, two):
    return all(
        torch.equal(a.images, b.images)
        and torch.equal(a.noise, b.noise)
        and torch.equal(a.indices, b.indices)
        for a, b in zip(one, two, strict=True)
    )


def test_batches__same_with_any_workers_and_from_any_step():
    straight = batches()
    assert same(straight, batches(workers=2))
    assert same(straight[4:], batches(steps=range(4, 6)))
    assert not same(straight, batches(seed=4))


def test_batches__leave_the_default_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    batches()
    assert torch.equal(torch.rand(3), expected)


def test_batches__two_processes_share_one_global_batch():
    whole = batches(batch=6, micro=6)
    parts = [batches(batch=6, micro=3, rank=rank, world=2) for rank in (0, 1)]
    for one, left, right in zip(whole, *parts, strict=True):
        assert torch.equal(one.images, torch.cat([left.images, right.images]))


def test_batches__micro_batches_make_up_the_batch():
    whole, parts = (
        batches(batch=5, micro=5, steps=range(2)),
        batches(batch=5, micro=2, steps=range(2)),
    )
    assert [len(part.indices) for part in parts] == [
        2,
        2,
        1,
        2,
        2,
        1,
    ]  # the last, partial one is used
    assert torch.equal(
        torch.cat([part.images for part in parts]), torch.cat([one.images for one in whole])
    )


def test_sampler__every_picture_every_epoch_and_full_batches():
    sampler = StepSampler(11, BatchPlan(4, 4), 0, range(6))
    assert BatchPlan(4, 4).steps_per_epoch(11) == 3
    keys = list(itertools.chain.from_iterable(sampler))
    assert all(len(batch) == 4 for batch in sampler)
    for epoch in (0, 1):
        shown = [index for at, index in keys if at == epoch]
        assert set(shown) == set(range(11))
        assert shown[11] == shown[0]  # filled up from the epoch's beginning
    assert [i for e, i in keys if e == 0] != [i for e, i in keys if e == 1]


def test_views__differ_between_epochs():
    views = Views(ARRAY, TrainTransform((8, 8), AugmentConfig()), 3, 4, seed=0)
    assert not torch.equal(views[0, 5].image, views[1, 5].image)
    assert not torch.equal(views[0, 5].noise, views[1, 5].noise)
    assert torch.equal(views[1, 5].image, views[1, 5].image)


def test_views__a_picture_that_broke_is_replaced_and_counted(tmp_path):
    folder = write_pictures(tmp_path / "p", 4, classes=1)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    source = FileSource(folder, PathTable.of(names), 10**6)
    put(folder / names[1], b"broken")
    loader = build_loader(Views(source, EvalTransform((8, 8)), 3, 4, 0), in_order(4, 4), 0)
    (batch,) = loader
    assert batch.indices.tolist() == [0, 2, 2, 3]
    assert batch.replaced == [(1, "not a picture in any format that maekit reads")]


def test_views__all_gone_is_an_error(tmp_path):
    source = FileSource(tmp_path, PathTable.of(["a.png", "b.png"]), 10**6)
    with pytest.raises(DataError, match=r"first a\.png: file not found\. Were they moved\?"):
        Views(source, EvalTransform((8, 8)), 3, 4, 0)[0, 0]


def test_collate__mixed_depths_become_unit_floats(tmp_path):
    class Mixed:
        def __len__(self):
            return 2

        def name(self, index):
            return str(index)

        def read(self, index):
            return np.full((8, 8, 1), [255, 65535][index], dtype=[np.uint8, np.uint16][index])

    (batch,) = build_loader(Views(Mixed(), EvalTransform((8, 8)), 1, 4, 0), in_order(2, 2), 0)
    assert batch.images.unique().tolist() == [1.0]


def test_epoch_order__is_a_permutation():
    assert sorted(epoch_order(50, 1, 2).tolist()) == list(range(50))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_skipped": 2.0}, "max_skipped"),
        ({"mean": (0.5,)}, "mean and std must be given together"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
    ],
)
def test_config__refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(dir=Path("x"), **settings)


def test_index_batches__hold_no_pictures():
    (batch,) = index_batches([[(0, 3), (0, 1)]])
    assert batch.indices.tolist() == [3, 1]
    assert batch.images.numel() == 0
