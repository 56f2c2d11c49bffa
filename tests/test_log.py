import io
import logging
import sys
from pathlib import Path

import pytest

from maekit.errors import ConfigError
from maekit.log import (
    ConsoleHandler,
    JsonLines,
    TrackerConfig,
    add_log_file,
    build_trackers,
    check_trackers,
    configure_logging,
    read_json_lines,
    remove_log_file,
)

SHIPPED = Path(__file__).parents[1] / "configs" / "pretrain" / "logging_pretrain.yaml"


@pytest.mark.parametrize("path", [None, SHIPPED])
def test_configure_logging__speaks_on_the_current_stderr(path, monkeypatch):
    configure_logging(path)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logging.getLogger("maekit.x").info("hello")
    assert stream.getvalue() == "hello\n"
    assert isinstance(logging.getLogger("maekit").handlers[0], ConsoleHandler)


def test_log_file__holds_what_is_logged(tmp_path):
    handler = add_log_file(tmp_path / "log.txt")
    logging.getLogger("maekit.y").info("in the file")
    remove_log_file(handler)
    logging.getLogger("maekit.y").info("no more")
    assert (tmp_path / "log.txt").read_text().endswith("INFO in the file\n")


def test_json_lines__append_and_keep(tmp_path):
    lines = JsonLines(tmp_path / "m.jsonl")
    for step in range(1, 6):
        lines.write({"step": step})
    with lines.path.open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    assert [record["step"] for record in read_json_lines(lines.path)] == [1, 2, 3, 4, 5]
    lines.keep(3)
    lines.write({"step": 4})
    assert [record["step"] for record in read_json_lines(lines.path)] == [1, 2, 3, 4]
    assert read_json_lines(tmp_path / "none.jsonl") == []


def test_json_lines__a_full_disk_is_said_once_and_ends_nothing(caplog):
    lines = JsonLines(Path("/dev/full"))
    lines.write({"step": 1})
    lines.write({"step": 2})
    assert caplog.text.count("No space left") == 1


def test_trackers__tensorboard_where_installed(tmp_path):
    pytest.importorskip("tensorboard")
    (tracker,) = build_trackers(TrackerConfig(), tmp_path, {})
    tracker.log(1, {"loss": 0.5})
    tracker.close()
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert build_trackers(TrackerConfig(tensorboard=False), tmp_path, {}) == []


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_trackers__a_missing_one_names_its_extra(name):
    try:
        __import__(name)
    except ImportError:
        with pytest.raises(
            ConfigError,
            match=rf"trackers\.{name} needs that package: pip install 'maekit\[{name}\]'",
        ):
            check_trackers(TrackerConfig(**{name: "project"}))
    else:
        pytest.skip(f"{name} is installed")
