"""Measures an encoder by the votes of nearest pictures; trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maekit.config import Task, build, given_python
from maekit.data.labelled import LabelConfig
from maekit.errors import ConfigError
from maekit.probing.measure import KS
from maekit.probing.result import ProbeResult
from maekit.tasks.probe import ProbeConfig, measure_and_tell


@dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """Measures a frozen encoder by the votes of nearest pictures; trains nothing."""

    checkpoint: Path
    """Checkpoint or run folder."""
    data: LabelConfig
    k: int | None = None
    """Neighbours that vote; chosen on held-out training pictures if not given."""
    temperature: float = 0.07
    """A vote weighs exp(cosine / temperature)."""
    untrained: bool = True
    """Whether the same encoder with random weights is measured beside it."""
    seed: int = 0
    """Fixes the untrained encoder and every division of the pictures."""
    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one if not given."""
    out: Path | None = None
    """JSON file to write the numbers to."""

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise ConfigError(f"k must be at least 1, got {self.k}.")
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}.")


def knn(config: KnnConfig | None = None, /, **given: object) -> ProbeResult:
    """Measures an encoder by its nearest neighbours.

    Args:
        config: All settings, or none.
        given: Settings by name instead, e.g. `checkpoint="runs/a", dir="labelled", k=20`.

    Raises:
        MaekitError: If the checkpoint or the pictures cannot be used.
    """
    return run(config or build(KnnConfig, given_python(given, KnnConfig)))


def run(config: KnnConfig) -> ProbeResult:
    """Measures, prints the table, writes the numbers."""
    shared = {
        name: value for name, value in vars(config).items() if name not in ("k", "temperature")
    }
    ks = KS if config.k is None else (config.k,)
    return measure_and_tell(ProbeConfig(methods=("knn",), **shared), ks, config.temperature)


TASK = Task(KnnConfig, run, ("checkpoint", "data.dir"))
