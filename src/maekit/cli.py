"""The command line: arguments to settings, settings to a task, its outcome to an exit code."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from maekit import __version__
from maekit.config import (
    Given,
    Task,
    build,
    describe,
    find_name,
    find_recipe,
    given_text,
    read_yaml,
    settings,
)
from maekit.errors import ConfigError, MaekitError, explain
from maekit.log import configure_logging
from maekit.tasks import TASKS

_USER_ERROR = 2
_COMMON = """
  --config FILE_OR_NAME  (YAML settings; a name alone is one of the shipped recipes)
  --logging_config FILE  (loggers, in logging.config.dictConfig's schema as YAML)
  --debug  (show the traceback of an error)
  --help  (this text)"""


class Arguments(NamedTuple):
    """A command line taken apart."""

    bare: list[str]
    flags: list[tuple[str, str | None]]
    """Name and text; None where no text follows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    0 is success, 2 a mistake of the user's that one line explains, 130 and 143 an interruption.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        print(f"maekit {__version__}")
        return 0
    try:
        return _run(arguments[0], arguments[1:])
    except MaekitError as error:
        if "--debug" in arguments:
            raise
        print(f"mae: {explain(error)}", file=sys.stderr)
        return _USER_ERROR
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # e.g. `mae … | head`
        return 128 + signal.SIGPIPE


def _overview() -> str:
    lines = [
        f"maekit {__version__}: masked autoencoders on your own pictures",
        "",
        "usage: mae COMMAND …",
        "",
    ]
    lines += [f"  {name:<12} {summary}" for name, summary in TASKS.items()]
    lines += ["", "mae COMMAND --help lists the settings of a command."]
    return "\n".join(lines)


def _run(name: str, argv: list[str]) -> int:
    if name not in TASKS:
        import difflib

        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else f" There are: {', '.join(TASKS)}."
        raise ConfigError(f"There is no command '{name}'.{hint}")
    task: Task = importlib.import_module(f"maekit.tasks.{name}").TASK
    if "--help" in argv or "-h" in argv:
        print(_help(name, task))
        return 0
    given, logging_config = collect(task, split_arguments(argv))
    configure_logging(logging_config)
    config = task.load(given) if task.load else build(task.config, given)
    task.run(config)
    return 0


def _help(name: str, task: Task) -> str:
    bare = " ".join(path.rpartition(".")[2].upper() for path in task.positional)
    return (
        f"usage: mae {name} {bare} [--SETTING VALUE …]\n\n{TASKS[name]}\n\n"
        f"Settings (the last part of a name is enough where it is unambiguous):\n{_COMMON}\n"
        f"{describe(task.config)}"
    )


def split_arguments(argv: Sequence[str]) -> Arguments:
    """Takes a command line apart; `--name=value` and `--name value` are the same.

    >>> split_arguments(["photos", "--epochs", "3", "--plan"])
    Arguments(bare=['photos'], flags=[('epochs', '3'), ('plan', None)])
    """
    bare: list[str] = []
    flags: list[tuple[str, str | None]] = []
    pending = list(argv)
    while pending:
        word = pending.pop(0)
        if not word.startswith("--") or word == "--":
            bare.append(word)
            continue
        name, equals, text = word[2:].partition("=")
        if not equals and pending and not pending[0].startswith("--"):
            text, equals = pending.pop(0), "="
        flags.append((name, text if equals else None))
    return Arguments(bare, flags)


def collect(task: Task, arguments: Arguments) -> tuple[dict[str, Given], Path | None]:
    """Gathers settings: config file first, flags and bare arguments over it.

    Raises:
        ConfigError: For every unknown flag and wrong value, all at once.
    """
    file_given: dict[str, Given] = {}
    given: dict[str, Given] = {}
    logging_config, errors, bare = None, [], list(arguments.bare)
    for name, text in arguments.flags:
        plain = name.replace("-", "_")
        try:
            if plain == "debug":
                bare = ([text] if text is not None else []) + bare
            elif plain in ("config", "logging_config"):
                if text is None:
                    raise ConfigError(f"--{name} needs the name of a file.")
                if plain == "config":
                    file_given = read_yaml(find_recipe(text), task.config)
                else:
                    logging_config = Path(text)
            else:
                path, value, left = _flag(task, name, text)
                given[path] = value
                bare = left + bare
        except ConfigError as error:
            errors.append(str(error))
    try:
        positional = _bare(task, bare)
        for path in positional.keys() & given.keys():
            raise ConfigError(f"{path} is given twice: as an argument and as {given[path].origin}.")
        given |= positional
    except ConfigError as error:
        errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors))
    return file_given | given, logging_config


def _flag(task: Task, name: str, text: str | None) -> tuple[str, Given, list[str]]:
    """Reads one flag.

    A switch takes no text but true or false; another word after it is a bare argument.
    """
    origin = f"--{name}"
    path = find_name(task.config, name, origin)
    if settings(task.config)[path].type is bool and (
        text is None or text.lower() not in ("true", "false")
    ):
        return path, Given(True, origin), [] if text is None else [text]
    if text is None:
        raise ConfigError(f"{origin} needs a value.")
    path, value = given_text(name, text, task.config, origin)
    return path, value, []


def _bare(task: Task, words: list[str]) -> dict[str, Given]:
    given: dict[str, Given] = {}
    known = settings(task.config)
    for number, path in enumerate(task.positional):
        if not words:
            break
        is_last = number == len(task.positional) - 1
        if is_last and "tuple" in str(known[path].type):
            given[path], words = Given(words, "argument"), []
        else:
            given[path], words = Given(words[0], "argument"), words[1:]
    if words:
        numbers = all(word.replace(".", "", 1).isdigit() for word in words)
        hint = " A list is written with commas: --image_size 96,64." if numbers else ""
        raise ConfigError(f"Too many arguments: {' '.join(words)}.{hint}")
    return given


def script(name: str) -> None:
    """Entry of the scripts beside the package, e.g. `python pretrain.py …`."""
    sys.exit(main([name, *sys.argv[1:]]))


def console() -> None:
    """Entry of the `mae` command."""
    sys.exit(main())
