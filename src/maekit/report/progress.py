"""What a person sees while a command works: counts, and the training's live line."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from maekit.data.scan_pool import Progress as Tell

logger = logging.getLogger(__name__)
# Where no terminal shows the live line, a line is logged at least this many seconds apart.
_LOG_EVERY_S = 15.0


@contextlib.contextmanager
def counting(title: str) -> Iterator[Tell]:
    """Shows a bar while its context is open; nothing where there is no terminal."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(title, total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield tell


class TrainDisplay:
    """One line that follows a training; log lines go above it."""

    def __init__(self, num_steps: int, num_epochs: int, start: int) -> None:
        self.num_steps, self.num_epochs = num_steps, num_epochs
        console = Console(stderr=True)
        self.live = console.is_terminal
        self._logged_at = 0.0
        self._bar = Progress(
            TextColumn("{task.fields[text]}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[speed]}"),
            console=console,
            disable=not self.live,
        )
        self._task = self._bar.add_task(
            "", total=num_steps, completed=start, text="starting", speed=""
        )

    def __enter__(self) -> TrainDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, step: int, epoch: float, shown: str, speed: Mapping[str, float]) -> None:
        """Shows the newest numbers.

        Args:
            step: Steps taken.
            epoch: Epochs, fractional.
            shown: Losses and the like, in words.
            speed: `images_per_s`, `data_wait` (share of the time) and `seconds_left`.
        """
        text = (
            f"epoch {min(int(epoch) + 1, self.num_epochs)}/{self.num_epochs}  step "
            f"{step}/{self.num_steps}  {shown}"
        )
        pace = (
            f"{speed['images_per_s']:.0f} images/s  {duration(speed['seconds_left'])} left  "
            f"data wait {speed['data_wait']:.0%}"
        )
        self._bar.update(self._task, completed=step, text=text, speed=pace)
        if not self.live and (
            time.monotonic() - self._logged_at > _LOG_EVERY_S or step == self.num_steps
        ):
            self._logged_at = time.monotonic()
            logger.info("%s  %s", text, pace)


def duration(seconds: float) -> str:
    """Writes a time as a person would.

    >>> duration(3725), duration(95), duration(8)
    ('1 h 02 min', '1 min 35 s', '8 s')
    """
    if seconds >= 172_800:
        return f"{seconds / 86_400:.1f} days"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def print_table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints a table to standard output, first column left, others as they fit."""
    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
