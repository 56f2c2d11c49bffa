"""A run in words, before it starts: the data, what was chosen and why, what it will take."""

from __future__ import annotations

import logging
from dataclasses import replace

from maekit.config import to_plain_text
from maekit.data.survey import Survey
from maekit.masking import num_visible
from maekit.models.mae import training_flops
from maekit.pretraining.build import build_training, held_out, train_batches
from maekit.pretraining.estimate import Estimate, measure
from maekit.pretraining.objective import PretrainObjective
from maekit.pretraining.prepare import Prepared, plan_loop
from maekit.processes import World
from maekit.report.progress import duration
from maekit.targets import Baselines
from maekit.training.config import LoopPlan

logger = logging.getLogger(__name__)


def describe_data(found: Survey) -> list[str]:
    """Says in a few lines what the scan found."""
    usable = len(found.usable)
    lines = [f"{usable:,} pictures usable of {len(found.names):,} in {found.place}"]
    modes = ", ".join(
        f"{count:,} {mode}"
        for mode, count in sorted(found.modes.items(), key=lambda item: -item[1])
    )
    heights, widths = found.of_usable("height"), found.of_usable("width")
    lines.append(f"{widths.min()}×{heights.min()} to {widths.max()}×{heights.max()} px; {modes}")
    if found.reasons:
        lines.append(
            f"{len(found.reasons):,} skipped, e.g. {found.skips[0].name}: {found.skips[0].reason}"
        )
    if several := int(found.of_usable("several_frames").sum()):
        lines.append(f"{several:,} hold several frames; the first is used")
    lines.extend(found.notes)
    return lines


def plan_lines(prepared: Prepared, plan: LoopPlan, reference: Baselines) -> list[str]:
    """Says what a run is about to do, and why where it was chosen."""
    config = prepared.config
    encoder = config.model.encoder()
    count = num_visible(encoder.grid.num_patches, config.masking.mask_ratio)
    lines = ["Data", *(f"  {line}" for line in describe_data(prepared.found))]
    train, val = prepared.pictures
    lines.append(f"  {len(train):,} to train on, {len(val):,} held out")
    if prepared.choices:
        lines.append("Chosen (each can be given as --NAME VALUE)")
        width = max(len(choice.name) for choice in prepared.choices)
        for choice in prepared.choices:
            lines.append(
                f"  {choice.name:<{width}}  {to_plain_text(choice.value)}  ({choice.reason})"
            )
    lines.append("Run")
    lines.append(
        f"  encoder {encoder.embed_dim} × {encoder.depth}, "
        f"{encoder.grid.height}×{encoder.grid.width} patches of "
        f"{encoder.patch_size} px, {count} of {encoder.grid.num_patches} visible; "
        f"{training_flops(config.model, count) / 1e9:.3g} GFLOP an image to train"
    )
    lines.append(
        f"  {config.train.epochs} epochs × {plan.steps_per_epoch} steps of {plan.batch_size} = "
        f"{plan.num_steps:,} steps; "
        f"learning rate to {plan.schedule.peak_lr:.2e} in {plan.schedule.warmup_steps:.0f} "
        f"steps; {plan.precision}"
    )
    lines.append(
        f"  loss to beat: {reference.mean_colour:.4f} for the best single colour, "
        f"{reference.patch_mean:.4f} for each patch's true mean colour"
    )
    return lines


def say_plan(prepared: Prepared, plan: LoopPlan, reference: Baselines) -> None:
    """Logs the plan in one block."""
    logger.info("%s", "\n".join(plan_lines(prepared, plan, reference)))
    logger.info("Run folder: %s", prepared.config.out)


def print_plan(prepared: Prepared, world: World, processes: int) -> None:
    """Measures memory and speed, and logs the plan with them; trains nothing.

    Args:
        prepared: Prepared for all processes.
        world: This process alone, which measures.
        processes: How many the run will have.
    """
    config = prepared.config
    training = build_training(prepared, world).training
    plan = plan_loop(config, len(prepared.pictures.train), world._replace(size=processes))
    objective = training.objective
    assert isinstance(objective, PretrainObjective)
    held = held_out(prepared, objective)
    parameters = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in (("encoder", objective.mae.encoder), ("decoder", objective.mae.decoder))
    }
    lines = plan_lines(prepared, plan, held.baselines)
    lines.append(
        "  parameters: "
        + ", ".join(f"{name} {number / 1e6:.2f} M" for name, number in parameters.items())
    )
    small = replace(
        config, train=replace(config.train, micro_batch_size=_measured_batch(prepared, plan, world))
    )
    batches = train_batches(prepared._replace(config=small), plan, world, 0)
    estimate = measure(training, batches)
    lines.extend(f"  {line}" for line in _estimate_lines(estimate, plan, world, processes))
    logger.info("%s", "\n".join(lines))


def _measured_batch(prepared: Prepared, plan: LoopPlan, world: World) -> int:
    """Returns how many pictures to measure with: on a CPU no more than take a second or two."""
    if world.device.type != "cpu":
        return plan.micro_batches[0]
    model = prepared.config.model
    count = num_visible(model.encoder().grid.num_patches, prepared.config.masking.mask_ratio)
    return max(1, min(plan.micro_batches[0], int(2e11 / training_flops(model, count))))


def _estimate_lines(estimate: Estimate, plan: LoopPlan, world: World, processes: int) -> list[str]:
    on_cpu = world.device.type == "cpu"
    speed = estimate.images_per_s(shares_cores=on_cpu)
    if not on_cpu:
        speed *= processes  # each has a GPU and workers; on the CPU they share the cores
    total = plan.num_steps * plan.batch_size
    return [
        f"memory: about {max(1, round(estimate.memory_bytes / 1e6)):,} MB a process",
        f"measured in one process: load {estimate.load_images_per_s:.0f} images/s, compute "
        f"{estimate.compute_images_per_s:.0f} images/s",
        f"with {processes} in all, about {speed:.0f} images/s: {duration(total / speed)} to go, "
        f"{duration(total / speed / plan.num_steps * plan.steps_per_epoch)} an epoch",
    ]
