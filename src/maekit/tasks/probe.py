"""Measures an encoder on labelled folders: k-NN and linear probe, beside the untrained one."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from maekit import checkpoint
from maekit.analysis.neighbours import knn_classify
from maekit.analysis.probes import accuracy, fit_linear_probe
from maekit.config import Task, build, from_dict, given_python
from maekit.data.labelled import labels_of_folders
from maekit.data.loader import DataConfig
from maekit.data.opening import survey
from maekit.data.sources import Source
from maekit.errors import DataError
from maekit.features import FeatureTable, extract
from maekit.models.mae import ModelConfig
from maekit.models.vit import ViT
from maekit.report.progress import counting, print_table
from maekit.runtime import RuntimeConfig, choose_device, num_cores, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Measures an encoder on labelled pictures, one folder a class."""

    checkpoint: Path
    """Checkpoint or run folder."""
    dir: Path
    """Folder with train/CLASS/… and test/CLASS/… (or val/CLASS/…)."""
    k: int = 20
    """Neighbours that vote."""
    seed: int = 0
    """Fixes the untrained encoder and the split on which the probe's penalty is chosen."""
    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one if not given."""
    out: Path | None = None
    """JSON file to write the numbers to."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Top-1 accuracies on the test folder, in [0, 1]. None where there is no class token."""

    knn_cls: float | None
    knn_mean: float
    linear_cls: float | None
    linear_mean: float


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The encoder beside the same one untrained."""

    classes: list[str]
    num_train: int
    num_test: int
    chance: float
    """Accuracy of always naming the test folder's most frequent class."""
    pretrained: Scores
    untrained: Scores
    protocol: str


def probe(config: ProbeConfig | None = None, /, **given: object) -> ProbeResult:
    """Measures an encoder on labelled pictures.

    Args:
        config: All settings, or none.
        given: Settings by name instead, e.g. `checkpoint="runs/a", dir="labelled"`.

    Raises:
        MaekitError: If the checkpoint or the folders cannot be used.
    """
    return run(config or build(ProbeConfig, given_python(given, ProbeConfig)))


def run(config: ProbeConfig) -> ProbeResult:
    """Extracts features once and fits both probes on them."""
    device = torch.device(choose_device(RuntimeConfig(device=config.device)))
    state = checkpoint.load(checkpoint.find(config.checkpoint))
    preprocessing = checkpoint.preprocessing_of(state)
    pretrained = checkpoint.build_encoder(state)
    torch.manual_seed(config.seed)
    untrained = ViT(from_dict(ModelConfig, state["model"], "checkpoint").encoder())

    train = _labelled(config.dir / "train", preprocessing.in_channels)
    test_folder = config.dir / "test" if (config.dir / "test").is_dir() else config.dir / "val"
    test = _labelled(test_folder, preprocessing.in_channels)
    classes = sorted(set(train.labels))
    unknown = sorted(set(test.labels) - set(classes))
    if unknown:
        raise DataError(
            f"{test_folder} has classes that {config.dir / 'train'} lacks: {', '.join(unknown)}."
        )
    y_train = torch.tensor([classes.index(label) for label in train.labels])
    y_test = torch.tensor([classes.index(label) for label in test.labels])

    scores = []
    for name, encoder in (("pre-trained", pretrained), ("untrained", untrained)):
        tables = []
        for part, labelled in (("train", train), ("test", test)):
            with counting(f"Features of {part}, {name}") as progress:
                tables.append(
                    extract(
                        encoder, labelled.source, preprocessing, num_cores() - 1, device, progress
                    )
                )
        scores.append(_score(tables[0], y_train, tables[1], y_test, config))
    result = ProbeResult(
        classes=classes,
        num_train=len(y_train),
        num_test=len(y_test),
        chance=float(y_test.bincount().max()) / len(y_test),
        pretrained=scores[0],
        untrained=scores[1],
        protocol=(
            f"top-1 on {test_folder}; frozen encoder, whole images; k-NN: cosine, k={config.k}, "
            "weights exp(s/0.07); linear: logistic regression on standardised features, "
            "L2 chosen on a fifth of the training data"
        ),
    )
    if config.out is not None:
        write_json(config.out, asdict(result))
    print_result(result)
    return result


class _Labelled:
    """Pictures with the name of the folder they lie in."""

    def __init__(self, source: Source, labels: list[str]) -> None:
        self.source, self.labels = source, labels


def _labelled(folder: Path, channels: int) -> _Labelled:
    _, source = survey(DataConfig(dir=folder), counting, channels)
    return _Labelled(source, labels_of_folders(folder, source))


def _score(
    train: FeatureTable, y_train: Tensor, test: FeatureTable, y_test: Tensor, config: ProbeConfig
) -> Scores:
    def knn(x: Tensor, queries: Tensor) -> float:
        return accuracy(knn_classify(x, y_train, queries, config.k), y_test)

    def linear(x: Tensor, queries: Tensor) -> float:
        return accuracy(fit_linear_probe(x, y_train, config.seed).predict(queries), y_test)

    has_cls = train.cls is not None and test.cls is not None
    return Scores(
        knn_cls=knn(train.cls, test.cls) if has_cls else None,  # type: ignore[arg-type]  # has_cls
        knn_mean=knn(train.mean, test.mean),
        linear_cls=linear(train.cls, test.cls) if has_cls else None,  # type: ignore[arg-type]  # has_cls
        linear_mean=linear(train.mean, test.mean),
    )


def print_result(result: ProbeResult) -> None:
    """Prints the two encoders side by side."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f} %"

    rows = [
        (name, *(percent(value) for value in (s.knn_mean, s.knn_cls, s.linear_mean, s.linear_cls)))
        for name, s in (
            ("pre-trained", result.pretrained),
            ("the same, untrained", result.untrained),
        )
    ]
    print_table(
        f"{len(result.classes)} classes, {result.num_train} training and {result.num_test} test "
        "pictures; "
        f"always the most frequent class: {100 * result.chance:.1f} %. "
        "Top-1; mean: of the patch tokens, cls: the class token.",
        (
            "encoder",
            "k-NN mean",
            "k-NN cls",
            "linear mean",
            "linear cls",
        ),
        rows,
    )


TASK = Task(ProbeConfig, run, ("checkpoint", "dir"))
