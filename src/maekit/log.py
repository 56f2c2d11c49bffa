"""What a run says: log lines for people, metrics.jsonl for machines, trackers where wanted."""

from __future__ import annotations

import importlib.util
import json
import logging
import logging.config
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import yaml

from maekit.errors import ConfigError, explain_write

logger = logging.getLogger(__name__)
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Services that draw curves. TensorBoard files are written whenever it is installed."""

    tensorboard: bool = True
    """Whether to write TensorBoard events where that package is installed."""
    wandb: str | None = None
    """Weights & Biases project to log to; needs `pip install maekit[wandb]`."""
    mlflow: str | None = None
    """MLflow experiment to log to; needs `pip install maekit[mlflow]`."""


class ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]  # its stream is ours
    """Writes to the standard error of the moment, which a live display may have taken over."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:  # TextIO, or what stands in for it
        """The standard error."""
        return sys.stderr


def configure_logging(path: Path | None) -> None:
    """Sets the loggers up: by a YAML file in `logging.config.dictConfig`'s schema, or plainly.

    Raises:
        ConfigError: If the file is missing or does not follow the schema.
    """
    if path is None:
        root = logging.getLogger("maekit")
        root.handlers = [ConsoleHandler()]
        root.setLevel(logging.INFO)
        root.propagate = False
        return
    try:
        schema = yaml.safe_load(path.read_text(encoding="utf-8"))
        logging.config.dictConfig(schema)
    except OSError as error:
        raise ConfigError(
            f"Cannot use the logging config {path}: {error.strerror} {error.filename or ''}".strip()
            + "."
        ) from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, ImportError, KeyError) as error:
        raise ConfigError(f"{path} does not follow logging.config.dictConfig: {error}") from error


def add_log_file(path: Path) -> logging.Handler:
    """Sends what maekit logs to a file as well; returns the handler for `remove_log_file`."""
    handler = _QuietFileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.getLogger("maekit").addHandler(handler)
    logging.getLogger("maekit").setLevel(logging.INFO)
    return handler


def remove_log_file(handler: logging.Handler) -> None:
    """Closes what `add_log_file` opened."""
    logging.getLogger("maekit").removeHandler(handler)
    handler.close()


class _QuietFileHandler(logging.FileHandler):
    """A full disk costs the log's lines, not the training."""

    def handleError(self, record: logging.LogRecord) -> None:  # logging's name
        """Drops the line."""


class JsonLines:
    """Appends one JSON object a line. A full disk is said once and costs lines, not the run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._failed = False

    def write(self, record: Mapping[str, object]) -> None:
        """Appends a record."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            if not self._failed:
                logger.warning("%s Training goes on.", explain_write(self.path, error))
            self._failed = True

    def keep(self, before_step: int) -> None:
        """Drops records of steps that a resumed run will take again, and a half-written last line.

        Args:
            before_step: Records with a greater `step` go.
        """
        records = [
            record
            for record in read_json_lines(self.path)
            if int(record.get("step", 0)) <= before_step
        ]
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(
            "".join(json.dumps(record) + "\n" for record in records), encoding="utf-8"
        )
        unfinished.replace(self.path)


def finite(scalars: Mapping[str, float]) -> dict[str, float]:
    """Returns the scalars that JSON can hold: of steps that were all left out there is no mean.

    >>> finite({"loss": float("nan"), "lr": 0.1})
    {'lr': 0.1}
    """
    return {name: value for name, value in scalars.items() if math.isfinite(value)}


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file of JSON lines; a last line that was cut off is left out."""
    records: list[dict[str, Any]] = []
    if not path.exists():
        return records
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


@runtime_checkable
class Tracker(Protocol):
    """Something that draws curves."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records numbers of a step."""

    def close(self) -> None:
        """Writes out what is pending."""


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    def __init__(self, project: str, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self.run = wandb.init(
            project=project, dir=str(folder), name=folder.name, config=dict(config)
        )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self.run.log(dict(scalars), step=step)

    def close(self) -> None:
        self.run.finish()


class _MLflow:
    def __init__(self, experiment: str, folder: Path, config: Mapping[str, Any]) -> None:
        import mlflow

        self.module = mlflow
        mlflow.set_experiment(experiment)
        mlflow.start_run(run_name=folder.name)
        mlflow.log_dict(dict(config), "config.json")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self.module.log_metrics(dict(scalars), step=step)

    def close(self) -> None:
        self.module.end_run()


def check_trackers(config: TrackerConfig) -> None:
    """Checks early that a run can be tracked as asked.

    Raises:
        ConfigError: If a tracker is asked for by name and not installed.
    """
    for name, wanted in (("wandb", config.wandb), ("mlflow", config.mlflow)):
        if wanted and importlib.util.find_spec(name) is None:
            raise ConfigError(f"trackers.{name} needs that package: pip install 'maekit[{name}]'.")


def build_trackers(
    config: TrackerConfig, folder: Path, settings: Mapping[str, Any]
) -> list[Tracker]:
    """Starts the trackers that are installed and wanted."""
    trackers: list[Tracker] = []
    if config.tensorboard and importlib.util.find_spec("tensorboard") is not None:
        # Its protobuf and TensorFlow probes chat on stderr.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        trackers.append(_TensorBoard(folder / "tensorboard"))
    if config.wandb:
        trackers.append(_Wandb(config.wandb, folder, settings))
    if config.mlflow:
        trackers.append(_MLflow(config.mlflow, folder, settings))
    return trackers
