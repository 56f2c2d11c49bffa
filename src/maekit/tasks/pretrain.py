"""Pre-trains a masked autoencoder on a folder of unlabelled pictures."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import torch

from maekit import checkpoint
from maekit.config import (
    Given,
    Task,
    build,
    flatten,
    given_python,
    to_dict,
    to_yaml,
)
from maekit.data.survey import write_skips
from maekit.errors import ConfigError, DataError
from maekit.log import JsonLines, build_trackers, check_trackers, remove_log_file
from maekit.pretraining.build import build_training, held_out, train_batches
from maekit.pretraining.config import SAFE_TO_CHANGE, PretrainConfig
from maekit.pretraining.describe import print_plan, say_plan
from maekit.pretraining.objective import PretrainObjective, explained
from maekit.pretraining.prepare import Prepared, prepare
from maekit.pretraining.run_folder import RunFolder
from maekit.processes import World, from_main, needs_launch, once, process_group, run_in_processes
from maekit.report.progress import TrainDisplay, counting, duration
from maekit.runtime import choose_device, write_json, write_text
from maekit.training.folder import check_out, open_folder, resumed_config
from maekit.training.keeper import Keeper, has_checkpoint
from maekit.training.loop import train
from maekit.training.state import Training

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What a run came to; result.json holds the same."""

    out: str
    """Folder of the run."""
    checkpoint: str
    """The last checkpoint, for `load_encoder`."""
    steps: int
    epochs: int
    num_images: int
    """Pictures trained on."""
    num_skipped: int
    """Pictures that could not be used."""
    loss: float
    """Training loss, mean of the last record."""
    val_loss: float
    """Loss on the held-out pictures."""
    explained: float
    """Share of the variance of held-out targets that is explained."""
    baseline_mean_colour: float
    """Loss of the best single colour."""
    baseline_patch_mean: float
    """Loss of each patch's own true mean colour."""
    best_val_loss: float
    nonfinite_steps: int
    """Steps left out because loss or gradient were not finite."""
    seconds: float
    """Of this process, scan included."""
    versions: dict[str, str]


def pretrain(config: PretrainConfig | None = None, /, **given: object) -> PretrainResult | None:
    """Pre-trains a masked autoencoder.

    Args:
        config: All settings, or none.
        given: Settings by name instead, as on the command line: `dir="photos", epochs=100`, or
            sections as dicts: `model={"size": "small"}`.

    Returns:
        What the run came to; None where only a plan was asked for.

    Raises:
        MaekitError: If settings, pictures or checkpoints do not allow the run.
    """
    if config is None:
        config = load_config(given_python(given, PretrainConfig))
    return run(config)


def load_config(given: dict[str, Given]) -> PretrainConfig:
    """Builds the settings, over those of a resumed run or of initial weights.

    Raises:
        ConfigError: If a setting is wrong, or changed where a resumed run must not change it.
        CheckpointError: If there is no run or checkpoint to take settings from.
    """
    if "resume" in given and given["resume"].value is not None:
        # The run has its weights, those it began with are no longer needed; and the device is this
        # machine's to choose again.
        if "init" in given and given["init"].value is not None:
            raise ConfigError(
                "init starts a new run from weights, resume goes on with a run; give one of them."
            )
        folder = Path(str(given["resume"].value))
        anew = ("init", "runtime.device") if has_checkpoint(folder) else ("runtime.device",)
        return resumed_config(PretrainConfig, folder, given, anew, SAFE_TO_CHANGE)
    if "init" in given and given["init"].value is not None:
        state = checkpoint.load(checkpoint.find(Path(str(given["init"].value)).expanduser()))
        stored = {
            "model": state["model"],
            "data": {key: state["preprocessing"][key] for key in ("mean", "std")},
        }
        origin = f"{given['init'].value}, whose weights are taken"
        behind = {name: Given(value, origin) for name, value in flatten(stored, PretrainConfig)}
        size = given.get("model.size")
        if size is not None and size.value != state["model"]["size"]:
            raise ConfigError(
                f"model.size is {size.value} ({size.origin}), but the widths come from the weights "
                f"in {given['init'].value}; leave it away, or begin without --init."
            )
        given = behind | given
    return build(PretrainConfig, given)


def run(config: PretrainConfig) -> PretrainResult | None:
    """Runs the task in this process, or in as many as were asked for."""
    device = choose_device(config.runtime)
    # Absolute, so that the run can be resumed from any folder.
    config = replace(config, data=replace(config.data, dir=config.data.dir.absolute()))
    if config.plan:
        _plan(config, device)
        return None
    if config.out is None:
        config = replace(config, out=Path("runs") / f"{datetime.now():%Y-%m-%d-%H%M%S}")
    assert config.out is not None
    check_out(config.out, config.data.dir, config.resume)
    check_trackers(config.trackers)
    if needs_launch(config.runtime):
        return _run_in_processes(config)
    with process_group(device) as world:
        return _train(once(world, lambda: prepare(config, world, counting)), world)


def _plan(config: PretrainConfig, device: str) -> None:
    """Plans for all processes, measuring in this one."""
    if int(os.environ.get("RANK", "0")) > 0:
        return
    processes = int(os.environ.get("WORLD_SIZE", config.runtime.devices))
    here = World(0, 1, torch.device(device, 0) if device == "cuda" else torch.device(device))
    print_plan(prepare(config, here._replace(size=processes), counting), here, processes)


def _run_in_processes(config: PretrainConfig) -> PretrainResult | None:
    run_in_processes("pretrain", config.runtime.devices, to_yaml(config))
    assert config.out is not None
    return PretrainResult(**json.loads((config.out / "result.json").read_text(encoding="utf-8")))


def _train(prepared: Prepared, world: World) -> PretrainResult | None:
    started = time.monotonic()
    config = prepared.config
    assert config.out is not None
    training, loaded = build_training(prepared, world)
    objective = training.objective
    assert isinstance(objective, PretrainObjective)
    fingerprint = prepared.found.fingerprint()
    with contextlib.ExitStack() as stack:
        keeper = None
        if world.is_main:
            stack.callback(remove_log_file, _begin_folder(prepared))
            keeper = Keeper(config.out / "checkpoints", config.output.keep_last)
        if config.resume is not None:
            _resume(training, prepared, keeper, world, fingerprint)
        held = held_out(prepared, objective)
        trackers = (
            build_trackers(config.trackers, config.out, to_dict(config)) if world.is_main else []
        )
        for tracker in trackers:
            stack.callback(tracker.close)
        if world.is_main:
            say_plan(prepared, training.plan, held.baselines)
            if config.resume is None:
                logger.info("Weights: %s", loaded)
        batches = train_batches(prepared, training.plan, world, training.progress.step)
        display = TrainDisplay(
            training.plan.num_steps, config.train.epochs or 0, training.progress.step
        )
        hooks = RunFolder(
            config=config,
            objective=objective,
            preprocessing=prepared.preprocessing,
            world=world,
            held_out=held,
            display=display,
            trackers=trackers,
            train_names=prepared.pictures.train,
            fingerprint=fingerprint,
            steps_per_epoch=training.plan.steps_per_epoch,
            most_replaced=int(max(10, config.data.max_skipped * len(prepared.found.names))),
        )
        if training.progress.step == 0:
            hooks.on_epoch(0)  # where it starts from: untrained, or the initial weights
        after_step = stack.enter_context(_profiler(config, world))
        if world.is_main:
            stack.enter_context(display)
        train(training, batches, hooks, keeper, after_step)
        if not world.is_main:
            return None
        return _finish(prepared, training, hooks, time.monotonic() - started)


def _begin_folder(prepared: Prepared) -> logging.Handler:
    """Makes the run folder and writes what is known at the start."""
    config = prepared.config
    assert config.out is not None
    handler = open_folder(config.out)
    if config.resume is None:
        write_skips(config.out / "skipped.jsonl", prepared.found.skips)
        write_text(config.out / "config.yaml", to_yaml(config))
    return handler


def _resume(
    training: Training, prepared: Prepared, keeper: Keeper | None, world: World, fingerprint: str
) -> None:
    """Takes up a run where its newest whole checkpoint left it, on every process."""
    found = keeper is not None and has_checkpoint(keeper.folder.parent)
    state = from_main(world, keeper.newest() if keeper and found else None)
    if state is None:
        if keeper is not None:
            JsonLines(keeper.folder.parent / "metrics.jsonl").keep(-1)
            logger.info("It ended before its first checkpoint: the run starts again.")
        return
    if state["data_fingerprint"] != fingerprint:
        raise DataError(
            f"The pictures in {prepared.found.place} are not those the run began with (their "
            "number, names, sizes or contents "
            f"differ); bring them back, or start a new run with --init {prepared.config.resume}."
        )
    objective = training.objective
    assert isinstance(objective, PretrainObjective)
    checkpoint.load_weights(objective.mae.encoder, state["encoder"], "encoder")
    checkpoint.load_weights(objective.mae.decoder, state["decoder"], "decoder")
    training.load_state(state)
    if keeper is not None and prepared.config.out is not None:
        JsonLines(prepared.config.out / "metrics.jsonl").keep(training.progress.step)
        logger.info("Going on with %s at step %d.", prepared.config.out, training.progress.step)


@contextlib.contextmanager
def _profiler(config: PretrainConfig, world: World) -> Iterator[Callable[[], None]]:
    """Traces steps where asked for; yields what the loop calls after each step."""
    if config.profile is None or not world.is_main:
        yield lambda: None
        return
    assert config.out is not None
    folder = config.out

    def write(profile: torch.profiler.profile) -> None:
        profile.export_chrome_trace(str(folder / "trace.json"))
        key = "self_cuda_time_total" if world.device.type == "cuda" else "self_cpu_time_total"
        table = profile.key_averages().table(sort_by=key, row_limit=10)
        write_text(folder / "profile.txt", table)
        logger.info(
            "The ten costliest operations of %d steps; trace in %s:\n%s",
            config.profile,
            folder / "trace.json",
            table,
        )

    kinds = [torch.profiler.ProfilerActivity.CPU]
    if world.device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    moments = torch.profiler.schedule(wait=1, warmup=1, active=config.profile, repeat=1)
    with torch.profiler.profile(
        activities=kinds, schedule=moments, on_trace_ready=write
    ) as profile:
        yield profile.step


def _finish(
    prepared: Prepared, training: Training, hooks: RunFolder, seconds: float
) -> PretrainResult:
    config, progress = prepared.config, training.progress
    assert config.out is not None
    assert config.train.epochs is not None
    if hooks.val_loss is None:
        # A finished run that was resumed: nothing was trained, its numbers stand.
        saved = config.out / "result.json"
        if saved.is_file():
            logger.info(
                "%s is finished: %d steps are done. For more, start from it with --init.",
                config.out,
                progress.step,
            )
            return PretrainResult(**json.loads(saved.read_text(encoding="utf-8")))
        hooks.on_epoch(config.train.epochs)
    assert hooks.val_loss is not None
    reference = hooks.held_out.baselines
    result = PretrainResult(
        out=str(config.out),
        checkpoint=str(config.out / "checkpoints" / "last.pt"),
        steps=progress.step,
        epochs=config.train.epochs,
        num_images=len(prepared.pictures.train),
        num_skipped=len(prepared.found.reasons) + progress.replaced,
        loss=hooks.last_record.scalars["loss"] if hooks.last_record else float("nan"),
        val_loss=hooks.val_loss,
        explained=explained(hooks.val_loss, reference),
        baseline_mean_colour=reference.mean_colour,
        baseline_patch_mean=reference.patch_mean,
        best_val_loss=progress.best,
        nonfinite_steps=progress.nonfinite_steps,
        seconds=round(seconds, 1),
        versions={
            name: importlib.metadata.version(name)
            for name in ("maekit", "torch", "torchvision", "pillow")
        },
    )
    write_json(config.out / "result.json", asdict(result))
    logger.info(
        "Done in %s: %s loss %.4f, %.1f %% of the variance explained. Encoder: %s",
        duration(seconds),
        hooks.held_out.what,
        result.val_loss,
        100 * result.explained,
        result.checkpoint,
    )
    return result


TASK = Task(PretrainConfig, run, ("data.dir",), load_config)
