import errno
from pathlib import Path

from maekit.errors import ConfigError, MaekitError, explain, explain_write


def test_explain__never_empty():
    assert explain(EOFError()) == "EOFError"
    assert explain(ValueError(" x ")) == "x"


def test_explain_write__full_disks_are_called_that():
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        assert explain_write(Path("a"), OSError(number, "?")).startswith(
            "No space left to write a."
        )
    assert explain_write(Path("a"), OSError(errno.EACCES, "denied")) == "Cannot write a: denied."


def test_errors__have_one_base():
    assert issubclass(ConfigError, MaekitError)
