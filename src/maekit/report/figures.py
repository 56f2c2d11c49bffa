"""Pictures of a run: reconstructions and the loss curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from maekit.errors import TrainingError, explain_write
from maekit.runtime import replace_file

_HIDDEN_GREY = 0.5


def draw_panels(
    path: Path, panels: Mapping[str, Float[Tensor, "b c height width"]], title: str, note: str = ""
) -> None:
    """Draws pictures side by side, a row an image and a column a panel.

    Args:
        path: PNG to write.
        panels: Title → images in one common scale; NaN is drawn grey. The first panel sets the
            range of brightness where values leave [0, 1].
        title: Stands above.
        note: Stands below, for what a reader must know to judge the picture.
    """
    columns = list(panels)
    first = panels[columns[0]]
    rows, (height, width) = len(first), first.shape[-2:]
    cell = 1.7
    figure = Figure(
        figsize=(cell * len(columns), cell * rows * height / width + 0.9), layout="constrained"
    )
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, name in enumerate(columns):
        axes[0, column].set_title(name, fontsize=9)
        for row in range(rows):
            axis = axes[row, column]
            axis.imshow(to_display(panels[name][row], like=first[row]), interpolation="nearest")
            axis.set_axis_off()
    if note:
        figure.supxlabel(note, fontsize=7, wrap=True)
    _write(figure, path)


def to_display(
    image: Float[Tensor, "c height width"], like: Float[Tensor, "c height width"]
) -> NDArray[np.float64]:
    """Turns an image of any number of channels into RGB in [0, 1].

    One channel becomes grey, two show the first, more show the first three. Values beyond [0, 1]
    (rasters that are no photographs) are stretched between the 2nd and 98th percentile of `like`.
    """
    shown = 3 if image.shape[0] >= 3 else 1
    values, reference = image[:shown].double().numpy(), like[:shown].double().numpy()
    low, high = 0.0, 1.0
    if np.nanmin(reference) < 0.0 or np.nanmax(reference) > 1.0 or np.nanmax(reference) < 0.1:
        low, high = (float(np.nanpercentile(reference, percent)) for percent in (2, 98))
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0)
    scaled = np.where(np.isnan(scaled), _HIDDEN_GREY, scaled)
    return np.broadcast_to(scaled.transpose(1, 2, 0), (*scaled.shape[1:], 3))


def draw_sheet(
    path: Path, pictures: Mapping[str, Float[Tensor, "c height width"]], title: str
) -> None:
    """Draws thumbnails with their names.

    Args:
        path: PNG to write.
        pictures: Name → image, all of one size.
        title: Stands above.
    """
    columns = min(8, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, image) in zip(axes, pictures.items(), strict=False):
        axis.imshow(to_display(image, like=image))
        # A dollar sign would start a formula.
        axis.set_title(name[-24:].replace("$", r"\$"), fontsize=6)
    _write(figure, path)


def draw_loss(
    path: Path, records: Sequence[Mapping[str, Any]], baselines: Mapping[str, float]
) -> None:
    """Draws training and held-out loss over epochs, beside what needs no network.

    Args:
        path: PNG to write.
        records: Lines of metrics.jsonl.
        baselines: Name → loss.
    """
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axis = figure.subplots()
    for key, name, style in (("loss", "training", "-"), ("val_loss", "held-out", "o-")):
        points = [
            (record["epoch"], record[key]) for record in records if record.get(key) is not None
        ]
        if points:
            axis.plot(*zip(*points, strict=True), style, label=name, linewidth=1.2, markersize=3)
    for (name, value), style in zip(baselines.items(), ("--", ":"), strict=True):
        axis.axhline(
            value, linestyle=style, color="grey", linewidth=1, label=f"{name} ({value:.3f})"
        )
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss on hidden patches")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    try:
        with replace_file(path) as file:
            figure.savefig(file, format="png", dpi=120)
    except OSError as error:
        raise TrainingError(explain_write(path, error)) from error
