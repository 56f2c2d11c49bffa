"""The folder of a run, on settings as small as can be; whole runs are in tests/tasks."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from maekit.config import Given
from maekit.errors import CheckpointError, ConfigError
from maekit.log import remove_log_file
from maekit.training.folder import check_out, open_folder, resumed_config


@dataclass(frozen=True, kw_only=True)
class Settings:
    width: int = 1
    """Changes the result."""
    workers: int = 1
    """Does not."""
    device: str | None = None
    """Chosen again."""
    out: Path | None = None
    """Folder."""


def resumed(folder, **given):
    values = {name: Given(value, "test") for name, value in given.items()}
    return resumed_config(Settings, folder, values, ("device",), ("workers", "device", "out"))


def test_resumed_config__what_may_change_and_what_may_not(tmp_path):
    with pytest.raises(CheckpointError, match="use --init"):
        resumed(tmp_path)
    (tmp_path / "config.yaml").write_text("width: 3\ndevice: cuda\n")
    again = resumed(tmp_path, workers=4)
    assert again == Settings(width=3, workers=4, device=None, out=tmp_path)
    with pytest.raises(ConfigError, match="width: 3 → 5"):
        resumed(tmp_path, width=5)
    with pytest.raises(ConfigError, match="cannot write to"):
        resumed(tmp_path, out=str(tmp_path / "other"))


def test_check_out__and_open_folder(tmp_path):
    pictures, run = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir()
    with pytest.raises(ConfigError, match="inside the pictures"):
        check_out(pictures / "run", pictures, None)
    check_out(run, pictures, None)
    remove_log_file(open_folder(run))
    assert run.is_dir()
    (run / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match="holds a run already"):
        check_out(run, pictures, None)
    check_out(run, pictures, resume=run)
    with pytest.raises(ConfigError, match="is a file"):
        check_out(run / "config.yaml", pictures, None)
    with pytest.raises(ConfigError, match="Cannot make the run folder"):
        open_folder(run / "config.yaml" / "x")
