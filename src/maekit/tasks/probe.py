"""Measures an encoder on labelled pictures: k-NN, linear and attentive probes, beside untrained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from maekit import checkpoint
from maekit.config import Task, build, given_python
from maekit.data.labelled import LabelConfig, load_labelled
from maekit.errors import ConfigError
from maekit.probing.measure import KS, Measuring, measure
from maekit.probing.result import METHODS, Method, ProbeResult, Score, print_result
from maekit.report.progress import counting
from maekit.runtime import RuntimeConfig, choose_device, num_cores, write_json


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Measures a frozen encoder on labelled pictures."""

    checkpoint: Path
    """Checkpoint or run folder."""
    data: LabelConfig
    methods: tuple[Method, ...] = METHODS
    """knn: votes of the nearest pictures. linear: logistic regression solved by L-BFGS. sgd: the
    paper's linear probe, batch norm and a linear layer trained by SGD. attentive: learned queries
    on the patch tokens of the best block."""
    untrained: bool = True
    """Whether the same encoder with random weights is measured beside it."""
    seed: int = 0
    """Fixes the untrained encoder, every division of the pictures, and the probes."""
    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one if not given."""
    out: Path | None = None
    """JSON file to write the numbers to."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ConfigError(f"methods names none; there are {', '.join(METHODS)}.")


def probe(config: ProbeConfig | None = None, /, **given: object) -> ProbeResult:
    """Measures an encoder on labelled pictures.

    Args:
        config: All settings, or none.
        given: Settings by name instead, e.g. `checkpoint="runs/a", dir="labelled"`.

    Raises:
        MaekitError: If the checkpoint or the pictures cannot be used.
    """
    return run(config or build(ProbeConfig, given_python(given, ProbeConfig)))


def run(config: ProbeConfig) -> ProbeResult:
    """Measures, prints the table, writes the numbers."""
    return measure_and_tell(config, KS, 0.07)


def measure_and_tell(config: ProbeConfig, ks: tuple[int, ...], temperature: float) -> ProbeResult:
    """Measures the encoder, and the same with random weights; prints and writes what it found.

    Args:
        config: Which encoder and pictures.
        ks: Neighbours to choose from.
        temperature: Of the votes of neighbours.
    """
    state = checkpoint.load(checkpoint.find(config.checkpoint))
    preprocessing = checkpoint.preprocessing_of(state)
    workers = config.data.num_workers
    how = Measuring(
        data=load_labelled(config.data, preprocessing.in_channels, config.seed, counting),
        preprocessing=preprocessing,
        methods=[method for method in METHODS if method in config.methods],
        ks=ks,
        temperature=temperature,
        seed=config.seed,
        num_workers=num_cores() - 1 if workers is None else workers,
        device=torch.device(choose_device(RuntimeConfig(device=config.device))),
    )
    data = how.data
    data.warn(f"mae check {config.data.dir}")
    scores: list[Score] = measure(how, checkpoint.build_encoder(state), "pre-trained")
    if config.untrained:
        scores += measure(how, checkpoint.untrained_encoder(state, config.seed), "untrained")
    counts = torch.from_numpy(data.test.labels).bincount()
    result = ProbeResult(
        classes=data.classes,
        num_train=len(data.train),
        num_val=len(data.val),
        num_test=len(data.test),
        chance=float(counts.max()) / len(data.test),
        leaked=data.leaked,
        scores=scores,
        notes=data.notes,
        protocol=_protocol(config, how),
    )
    if config.out is not None:
        write_json(config.out, asdict(result))
    print_result(result)
    return result


def _protocol(config: ProbeConfig, how: Measuring) -> str:
    said = {
        "knn": f"k-NN: cosine, weights exp(s/{how.temperature:g}), k from "
        f"{', '.join(map(str, how.ks))}",
        "linear": "linear: logistic regression on standardised features, L-BFGS, L2 chosen",
        "sgd": "sgd: batch norm without affine and a linear layer, 90 epochs of SGD, momentum "
        "0.9, 10 epochs of warm-up, cosine, rate chosen",
        "attentive": "attentive: learned queries on standardised patch tokens, AdamW, block chosen",
    }
    return (
        f"frozen encoder, whole pictures; chosen by top-1 on {len(how.data.val)} held-out training "
        f"pictures, then fitted on all {len(how.data.train) + len(how.data.val)}; "
        f"{'; '.join(said[method] for method in how.methods)}; seed {config.seed}"
    )


TASK = Task(ProbeConfig, run, ("checkpoint", "data.dir"))
