"""Pictures of a run: reconstructions and the loss curve."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from maekit.errors import TrainingError, explain_write
from maekit.runtime import replace_file

_HIDDEN_GREY = 0.5
_LABEL: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
_SMALL: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 6}


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
    first = next(iter(panels.values()))
    columns = [
        np.stack([to_display(image, like) for image, like in zip(images, first, strict=True)])
        for images in panels.values()
    ]
    figure, axis = _canvas(np.stack(columns, axis=1), title, note)
    for column, name in enumerate(panels):
        axis.text((column + 0.5) / len(panels), 1.0, f"{name}\n", **_LABEL)
    _write(figure, path)


def _canvas(
    pictures: NDArray[np.float64], title: str, note: str = "", label_in: float = 0.0
) -> tuple[Figure, Axes]:
    """Lays pictures of one size out on one pair of axes, which draws many times faster than many.

    Args:
        pictures: Shape (rows, columns, height, width, 3), in [0, 1].
        title: Stands above.
        note: Stands below.
        label_in: Inches left free above each row.

    Returns:
        The figure, and axes whose corners are (0, 0) and (1, 1).
    """
    rows, columns, height, width = pictures.shape[:4]
    wide = 1.7 * columns
    tall = rows * (1.7 * height / width + label_in)
    note = textwrap.fill(note, int(17 * wide))
    above = 0.3 if label_in else 0.5
    below = 0.2 + 0.12 * note.count("\n") if note else 0.05
    figure = Figure(figsize=(wide + 0.2, tall + above + below))
    total = tall + above + below
    axis = figure.add_axes((0.1 / (wide + 0.2), below / total, wide / (wide + 0.2), tall / total))
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.set_axis_off()
    # A white border of a few screen pixels, whatever the size of the pictures.
    gap = 0.03 / columns
    share = 1.7 * height / width * rows / tall
    for row in range(rows):
        bottom = 1 - (row + 1) / rows
        for column in range(columns):
            left = column / columns
            axis.imshow(
                pictures[row, column],
                extent=(left + gap, left + 1 / columns - gap, bottom + gap, bottom + share / rows),
                interpolation="nearest",
                aspect="auto",
            )
    figure.suptitle(title, fontsize=10, y=1 - 0.08 / total, va="top")
    if note:
        figure.text(0.5, 0.05 / total, note, fontsize=6.5, ha="center", va="bottom")
    return figure, axis


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
    shown = [to_display(image, like=image) for image in pictures.values()]
    shown += [np.ones_like(shown[0])] * (rows * columns - len(shown))
    cells = np.stack(shown).reshape(rows, columns, *shown[0].shape)
    figure, axis = _canvas(cells, title, label_in=0.2)
    for number, name in enumerate(pictures):
        row, column = divmod(number, columns)
        text = _printable(name[-24:])
        axis.text((column + 0.5) / columns, 1 - (row + 0.02) / rows, text, **_SMALL)
    _write(figure, path)


def _printable(name: str) -> str:
    """Names are bytes to a file system: no line ends, no broken characters, no formulas."""
    return "".join(char if char.isprintable() else "·" for char in name).replace("$", r"\$")


def draw_loss(
    path: Path, records: Sequence[Mapping[str, Any]], baselines: Mapping[str, float]
) -> None:
    """Draws training and held-out loss over epochs, beside what needs no network.

    Args:
        path: PNG to write.
        records: Lines of metrics.jsonl.
        baselines: Name → loss.
    """
    # Fixed margins: to find them costs as much as to draw.
    figure = Figure(figsize=(7.2, 4.0))
    axis = figure.add_axes((0.09, 0.12, 0.89, 0.85))
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


def draw_curve(path: Path, records: Sequence[Mapping[str, Any]], shares: Mapping[str, str]) -> None:
    """Draws shares in [0, 1] over epochs.

    Args:
        path: PNG to write.
        records: Lines of metrics.jsonl.
        shares: Key of the records → its name in the picture.
    """
    figure = Figure(figsize=(7.2, 4.0))
    axis = figure.add_axes((0.09, 0.12, 0.89, 0.85))
    for key, name in shares.items():
        points = [(record["epoch"], record[key]) for record in records if key in record]
        if points:
            axis.plot(*zip(*points, strict=True), "o-", label=name, linewidth=1.2, markersize=3)
    axis.set_xlabel("epoch")
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    _write(figure, path)


def draw_confusion(
    path: Path, counts: Int[Tensor, "classes classes"], names: Sequence[str], title: str
) -> None:
    """Draws which classes are taken for which: rows are true, columns predicted.

    Args:
        path: PNG to write.
        counts: Pictures; colours show each row's shares.
        names: Of the classes.
        title: Stands above.
    """
    number = len(names)
    side = min(14.0, max(4.0, 0.32 * number + 1.5))
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axis = figure.subplots()
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp_min(1)
    image = axis.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
    plain = [_printable(name) for name in names]
    axis.set_xticks(range(number), plain, rotation=90, fontsize=7)
    axis.set_yticks(range(number), plain, fontsize=7)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title, fontsize=10)
    if number <= 25:  # more numbers are no longer legible
        for row, column in counts.nonzero().tolist():
            dark = bool(shares[row, column] > 0.5)
            axis.text(
                column, row, str(int(counts[row, column])), ha="center", va="center", fontsize=6,
                color="white" if dark else "black",
            )  # fmt: skip
    figure.colorbar(image, label="share of the true class")
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    try:
        with replace_file(path) as file, warnings.catch_warnings():
            # A name in letters that the font lacks is drawn as boxes; nothing to do about it here.
            warnings.filterwarnings("ignore", message="Glyph")
            figure.savefig(file, format="png", dpi=120)
    except OSError as error:
        raise TrainingError(explain_write(path, error)) from error
