"""Turns a pre-trained encoder into a classifier of labelled folders."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maekit import checkpoint
from maekit.analysis.classification import (
    ClassificationScores,
    ClassScores,
    confusion,
    score_classification,
)
from maekit.analysis.probes import accuracy
from maekit.config import Given, Task, build, changed, flatten, given_python, to_yaml
from maekit.data.labelled import LabelledData, load_labelled
from maekit.data.survey import write_skips
from maekit.data.transforms import EvalTransform, to_tensor, to_unit
from maekit.errors import ConfigError, DecodeError
from maekit.finetuning.config import SAFE_TO_CHANGE, FinetuneConfig, Mode, choose
from maekit.finetuning.fit import fit
from maekit.log import remove_log_file
from maekit.processes import World, needs_launch, once, process_group, run_in_processes
from maekit.report.figures import draw_confusion, draw_sheet
from maekit.report.progress import counting, duration
from maekit.runtime import choose_device, choose_precision, write_json, write_text
from maekit.training.folder import check_out, open_folder, resumed_config
from maekit.training.keeper import Keeper, has_checkpoint

logger = logging.getLogger(__name__)
_MISTAKES = 24


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What a fine-tuning came to; result.json holds the same."""

    out: str
    """Folder of the run."""
    checkpoint: str
    """The checkpoint that was chosen, for `load_classifier`."""
    classes: list[str]
    num_train: int
    num_val: int
    test: ClassificationScores
    """On pictures that chose nothing."""
    val_top1: float
    """Of the checkpoint that was chosen, on the pictures that chose it."""
    baseline_top1: float | None
    """Top-1 on the test of the same, trained from random weights; None if that was not asked."""
    chance: float
    """Top-1 of always naming the test's most frequent class."""
    loaded: str
    """Which weights it started from."""
    leaked: int
    """Test pictures that are equal, byte for byte, to one used for training or choosing."""
    protocol: str
    seconds: float


def finetune(config: FinetuneConfig | None = None, /, **given: object) -> FinetuneResult:
    """Trains a classifier on a pre-trained encoder.

    Args:
        config: All settings, or none.
        given: Settings by name instead, e.g. `dir="labelled", init="runs/a", mode="full"`.

    Raises:
        MaekitError: If settings, pictures or checkpoint do not allow the run.
    """
    return run(config or load_config(given_python(given, FinetuneConfig)))


def load_config(given: dict[str, Given]) -> FinetuneConfig:
    """Builds the settings, over those of a resumed run or of the encoder's checkpoint.

    Raises:
        ConfigError: If one is wrong, contradicts the checkpoint, or would change a resumed run.
        CheckpointError: If there is no run or checkpoint to take settings from.
    """
    if "resume" in given and given["resume"].value is not None:
        folder = Path(str(given["resume"].value))
        anew = ("runtime.device",)
        return resumed_config(FinetuneConfig, folder, given, anew, SAFE_TO_CHANGE)
    if "init" in given and given["init"].value is not None:
        state = checkpoint.load(checkpoint.find(Path(str(given["init"].value)).expanduser()))
        origin = str(given["init"].value)
        stored = dict(flatten({"model": state["model"]}, FinetuneConfig))
        behind = {name: Given(value, origin) for name, value in stored.items()}
        config = build(FinetuneConfig, {**given, **behind})
        asked = build(FinetuneConfig, {**behind, **given})
        for name, (has, wanted) in changed(config, asked).items():
            raise ConfigError(
                f"{name} is {wanted} ({given[name].origin}), but the encoder in {origin} has "
                f"{has}; leave it away, or use another checkpoint."
            )
        return config
    return build(FinetuneConfig, given)


def run(config: FinetuneConfig) -> FinetuneResult:
    """Trains, chooses, tests, and the same from random weights where asked."""
    started = time.monotonic()
    device = choose_device(config.runtime)
    config = replace(
        config,
        data=replace(config.data, dir=config.data.dir.absolute()),
        init=None if config.init is None else config.init.absolute(),
        out=config.out or Path("runs") / f"finetune-{datetime.now():%Y-%m-%d-%H%M%S}",
    )
    assert config.out is not None
    check_out(config.out, config.data.dir, config.resume)
    if needs_launch(config.runtime):
        return _run_in_processes(config)
    with process_group(device) as world:
        prepared = once(world, lambda: _prepare(config, device, world))
        return _run(prepared, world, started)


def _run_in_processes(config: FinetuneConfig) -> FinetuneResult:
    run_in_processes("finetune", config.runtime.devices, to_yaml(config))
    assert config.out is not None
    values = json.loads((config.out / "result.json").read_text(encoding="utf-8"))
    per_class = [ClassScores(**row) for row in values["test"].pop("per_class")]
    test = ClassificationScores(**values.pop("test"), per_class=per_class)
    return FinetuneResult(**values, test=test)


class _Prepared(NamedTuple):
    config: FinetuneConfig
    """Nothing in it is left open."""
    state: dict[str, Any]
    """Checkpoint with the encoder."""
    data: LabelledData


def _prepare(config: FinetuneConfig, device: str, world: World) -> _Prepared:
    state = _encoder_state(config)
    channels = checkpoint.preprocessing_of(state).in_channels
    data = load_labelled(config.data, channels, config.train.seed, counting)
    config = choose(config, len(data.train), channels, world.size)
    runtime = replace(
        config.runtime,
        device="cuda" if device == "cuda" else "cpu",
        precision=choose_precision(config.runtime, device),
    )
    return _Prepared(replace(config, runtime=runtime), state, data)


def _encoder_state(config: FinetuneConfig) -> dict[str, Any]:
    """Reads the encoder: of `init`, or where that is gone, of the run that goes on."""
    if config.resume is not None and has_checkpoint(config.resume):
        return Keeper(config.resume / "checkpoints", 2).newest()
    assert config.init is not None
    return checkpoint.load(checkpoint.find(config.init))


def _run(prepared: _Prepared, world: World, started: float) -> FinetuneResult:
    config, state, data = prepared
    assert config.out is not None
    out = config.out
    with contextlib.ExitStack() as stack:
        if world.is_main:
            stack.callback(remove_log_file, _begin_folder(config, data))
        fitted = fit(config, state, data, world, out)
        baseline = None
        if config.baseline and config.mode != "scratch":
            if world.is_main:
                logger.info("The same from random weights:")
            baseline = fit(
                _untrained(config, out), state, data, world, out / "baseline", random=True
            )
        if not world.is_main:
            raise SystemExit(0)  # the main process has the result
        assert fitted is not None
        labels = torch.from_numpy(data.test.labels)
        beside = None if baseline is None else accuracy(baseline.guessed.argmax(1), labels)
        result = FinetuneResult(
            out=str(out),
            checkpoint=str(out / "checkpoints" / "best.pt"),
            classes=data.classes,
            num_train=len(data.train),
            num_val=len(data.val),
            test=score_classification(fitted.guessed, labels, data.classes, config.train.seed),
            val_top1=fitted.val_top1,
            baseline_top1=beside,
            chance=float(labels.bincount().max()) / len(labels),
            loaded=fitted.loaded,
            leaked=data.leaked,
            protocol=_protocol(config, data),
            seconds=round(time.monotonic() - started, 1),
        )
        write_json(out / "result.json", asdict(result))
        _draw(out, result, fitted.guessed, data)
        _conclude(result)
        return result


def _begin_folder(config: FinetuneConfig, data: LabelledData) -> logging.Handler:
    """Makes the run folder, and writes and says what is known at the start."""
    assert config.out is not None
    handler = open_folder(config.out)
    if config.resume is None:
        write_text(config.out / "config.yaml", to_yaml(config))
        skips = itertools.chain.from_iterable(found.skips for found in data.surveys)
        write_skips(config.out / "skipped.jsonl", skips)
    _say(config, data)
    return handler


def _untrained(config: FinetuneConfig, out: Path) -> FinetuneConfig:
    """The same with random weights: under a frozen head the encoder stays random."""
    folder = out / "baseline"
    resumes = config.resume is not None and (folder / "checkpoints" / "last.pt").exists()
    mode: Mode = "frozen" if config.frozen else "scratch"
    return replace(
        config, mode=mode, init=None if resumes else config.init, out=folder,
        resume=folder if resumes else None,
    )  # fmt: skip


def _say(config: FinetuneConfig, data: LabelledData) -> None:
    logger.info(
        "%d classes; %d pictures to train on, %d to choose by, %d to test.",
        len(data.classes), len(data.train), len(data.val), len(data.test),
    )  # fmt: skip
    data.warn("skipped.jsonl")
    logger.info("%s; to %s", _protocol(config, data), config.out)


def _protocol(config: FinetuneConfig, data: LabelledData) -> str:
    tuned = {"partial": f", last {config.tune_blocks} blocks", "frozen": ""}.get(config.mode, "")
    layer = f"block {config.head.layer}" if config.head.layer else "the last block"
    head = config.head.kind + ("" if config.head.kind == "attentive" else f" on {config.head.pool}")
    decay = "" if config.frozen else f", layer decay {config.layer_decay}"
    decay += "" if config.ema is None else f", EMA {config.ema}"
    return (
        f"{config.mode}{tuned}; head: {head} of {layer}; {config.train.epochs} epochs of "
        f"{len(data.train)} pictures in batches of {config.train.batch_size}; AdamW, base_lr "
        f"{config.optim.base_lr}, weight decay {config.optim.weight_decay}{decay}; mixup "
        f"{config.augment.mixup}, cutmix {config.augment.cutmix}, label smoothing "
        f"{config.augment.label_smoothing}, RandAugment {config.augment.randaugment}, erasing "
        f"{config.augment.erase}, drop path {config.augment.drop_path}; checkpoint chosen by "
        f"top-1 on {len(data.val)} held-out training pictures; seed {config.train.seed}"
    )


def _draw(out: Path, result: FinetuneResult, guessed: Tensor, data: LabelledData) -> None:
    """Writes the table of classes, the confusion matrix and the surest mistakes."""
    table = io.StringIO()
    rows = [asdict(scores) for scores in result.test.per_class]
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "per_class.csv", table.getvalue())
    labels, predicted = torch.from_numpy(data.test.labels), guessed.argmax(dim=1)
    counts = confusion(predicted, labels, len(data.classes))
    draw_confusion(
        out / "confusion.png", counts, data.classes,
        f"Test: top-1 {result.test.top1:.1%} of {result.test.num_images} pictures",
    )  # fmt: skip
    wrong = (predicted != labels).nonzero().flatten()
    surest = wrong[guessed[wrong].amax(dim=1).argsort(descending=True)][:_MISTAKES].tolist()
    shown: dict[str, Tensor] = {}
    for number, row in enumerate(surest, start=1):
        with contextlib.suppress(DecodeError):  # changed since the scan
            pixels = data.test.source.read(row)
            view = to_unit(EvalTransform((96, 96))(to_tensor(pixels, pixels.shape[2])))
            names = data.classes[int(labels[row])], data.classes[int(predicted[row])]
            shown[f"{number}. {names[0][:9]} → {names[1][:9]}"] = view
    if shown:
        draw_sheet(out / "mistakes.png", shown, "The surest mistakes: true class → guess")


def _conclude(result: FinetuneResult) -> None:
    test = result.test
    beside = ""
    if result.baseline_top1 is not None:
        beside = f"; the same from random weights: {result.baseline_top1:.1%}"
    logger.info(
        "Test top-1 %.1f %% (95 %%: %.1f to %.1f)%s; chance %.1f %%; macro F1 %.3f; ECE %.3f. "
        "Classifier: %s (%s)",
        100 * test.top1, 100 * test.top1_low, 100 * test.top1_high, beside, 100 * result.chance,
        test.macro_f1, test.ece, result.checkpoint, duration(result.seconds),
    )  # fmt: skip


TASK = Task(FinetuneConfig, run, ("data.dir",), load_config)
