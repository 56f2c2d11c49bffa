"""Settings: frozen dataclasses filled from YAML files, command-line flags and keyword arguments.

A field is written once, in a dataclass beside its component: name, type, default, and the
docstring under it. From that come the YAML key, the flag, the help text and the Python argument,
all under the same dotted name. Every mistake is reported at once, each with where it stands.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import yaml

from maekit.conversion import alternatives, convert
from maekit.errors import ConfigError, explain

T = TypeVar("T")


class Given(NamedTuple):
    """A value somebody gave, and where."""

    value: object
    origin: str
    """For messages, e.g. `configs/a.yaml, line 3` or `--model.depth`."""


class Setting(NamedTuple):
    """One leaf of a tree of config dataclasses."""

    type: Any  # A type form such as `int | None`, for which Python has no better name.
    default: object
    """`dataclasses.MISSING` where the setting is required."""
    doc: str


@functools.cache  # to read sources takes milliseconds, and every flag asks
def settings(cls: type, prefix: str = "") -> Mapping[str, Setting]:
    """Lists every setting of a config dataclass and of those within it, by dotted name."""
    hints, docs = get_type_hints(cls), _field_docs(cls)
    found: dict[str, Setting] = {}
    for field in dataclasses.fields(cls):
        name, kind = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found |= settings(kind, f"{name}.")
        else:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            found[name] = Setting(kind, default, docs.get(field.name, ""))
    return found


def _field_docs(cls: type) -> dict[str, str]:
    """Reads the string that stands under each field in the source of `cls`."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            constant = after.value if isinstance(after, ast.Expr) else None
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                docs[field.target.id] = " ".join(constant.value.split())
    return docs


def find_name(cls: type, name: str, origin: str) -> str:
    """Returns the dotted name that `name` stands for: itself, or the one setting that ends in it.

    Dashes count as underscores.

    Raises:
        ConfigError: If there is no such setting, with the nearest known name, or several.
    """
    known = settings(cls)
    name = name.replace("-", "_")
    if name in known:
        return name
    ends = [path for path in known if path.rpartition(".")[2] == name]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(f"'{name}' ({origin}) could be {' or '.join(ends)}; write it in full.")
    raise ConfigError(_unknown(name, known, origin))


def _unknown(name: str, known: Mapping[str, Setting], origin: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    leaves = {path.rpartition(".")[2]: path for path in known}
    if not near:
        leaf = difflib.get_close_matches(name.rpartition(".")[2], leaves, n=1, cutoff=0.6)
        near = [leaves[leaf[0]]] if leaf else []
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"Unknown setting '{name}' ({origin}).{hint}"


def read_yaml(path: Path, cls: type) -> dict[str, Given]:
    """Reads settings from a YAML file, sections as mappings.

    Raises:
        ConfigError: If the file cannot be read, is no YAML, or holds unknown or duplicate keys;
            all of those at once, with their lines.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"Cannot read the config {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_one_line(error)}") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path} must hold settings as `name: value`, one a line.")
    given: dict[str, Given] = {}
    errors: list[str] = []
    known = settings(cls)
    for name, origin, node in _leaves(root, "", str(path), known):
        if name in given:
            errors.append(f"'{name}' is set twice ({given[name].origin} and {origin}).")
        elif name not in known:
            errors.append(_unknown(name, known, origin))
        else:
            try:
                given[name] = Given(_construct(node), origin)
            except yaml.YAMLError as error:
                errors.append(f"{name} ({origin}) holds no plain value: {_one_line(error)}")
    if errors:
        # With a mistake in the file, those in its values are said too.
        errors += _wrong_types(given, known)
        raise ConfigError("\n".join(errors))
    return given


def find_recipe(text: str) -> Path:
    """Returns the file that --config names: a path, or the name of a shipped recipe.

    Raises:
        ConfigError: If there is neither.
    """
    path = Path(text)
    if path.exists() or path.parent != Path():
        return path
    packaged = Path(__file__).parent / "recipes"
    recipes = packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"
    name = path.name if path.suffix else f"{path.name}.yaml"
    found = {recipe.name: recipe for recipe in sorted(recipes.rglob("mae_*.yaml"))}
    if name not in found:
        shipped = ", ".join(Path(recipe).stem for recipe in found) or "none"
        raise ConfigError(f"There is no config file {text}. Shipped recipes: {shipped}.")
    return found[name]


def _wrong_types(given: Mapping[str, Given], known: Mapping[str, Setting]) -> list[str]:
    errors = []
    for name, (value, origin) in given.items():
        try:
            convert(value, known[name].type)
        except ValueError as error:
            errors.append(f"{name} ({origin}) {error}.")
    return errors


def _leaves(
    node: yaml.MappingNode, prefix: str, file: str, known: Mapping[str, Setting]
) -> Iterator[tuple[str, str, yaml.Node]]:
    for key, value in node.value:
        name = prefix + str(key.value)
        is_section = any(path.startswith(f"{name}.") for path in known)
        if is_section and isinstance(value, yaml.MappingNode):
            yield from _leaves(value, f"{name}.", file, known)
        elif not (is_section and value.value in ("", "null", "~")):  # an empty section is none
            yield name, f"{file}, line {key.start_mark.line + 1}", value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _construct(node: yaml.Node) -> object:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def given_text(name: str, text: str, cls: type, origin: str) -> tuple[str, Given]:
    """Reads one flag's text as YAML would, except that text settings keep it as it stands."""
    path = find_name(cls, name, origin)
    kinds = alternatives(settings(cls)[path].type)
    if text not in ("null", "none", "None") and (str in kinds or Path in kinds):
        return path, Given(text, origin)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    return path, Given(None if value == "None" or value == "none" else value, origin)


def given_python(values: Mapping[str, object], cls: type) -> dict[str, Given]:
    """Reads keyword arguments: settings by name, sections as dicts, `config` as file or recipe.

    Raises:
        ConfigError: For an unknown name, or a file with mistakes.
    """
    if "config" in values:
        rest = {name: value for name, value in values.items() if name != "config"}
        file = find_recipe(str(values["config"]))
        return read_yaml(file, cls) | given_python(rest, cls)
    sections = {name.partition(".")[0] for name in settings(cls) if "." in name}
    given: dict[str, Given] = {}
    for name, value in values.items():
        if name in sections and isinstance(value, Mapping):
            given |= {path: Given(inner, "argument") for path, inner in flatten({name: value}, cls)}
        else:
            given[find_name(cls, name, "argument")] = Given(value, "argument")
    return given


def build(cls: type[T], given: Mapping[str, Given]) -> T:
    """Builds a config from given values and defaults.

    Raises:
        ConfigError: For every wrong type, missing setting and failed rule, one line each.
    """
    errors: list[str] = []
    config = _build(cls, given, "", errors)
    if errors or config is None:
        raise ConfigError("\n".join(errors))
    return config


def _build(cls: type[T], given: Mapping[str, Given], prefix: str, errors: list[str]) -> T | None:
    hints, before = get_type_hints(cls), len(errors)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # T is a dataclass
        name, kind = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            values[field.name] = _build(kind, given, f"{name}.", errors)
        elif name in given:
            try:
                values[field.name] = convert(given[name].value, kind)
            except ValueError as error:
                errors.append(f"{name} ({given[name].origin}) {error}.")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            errors.append(f"{name} is required: give it as --{name} or in the config file.")
    if len(errors) > before:
        return None
    try:
        return cls(**values)
    except ConfigError as error:
        inside = [
            f"{name}: {origin}"
            for name, (_, origin) in given.items()
            if name.startswith(prefix) and name.rpartition(".")[2] in str(error)
        ]
        where = f" ({'; '.join(inside)})" if inside else ""
        errors.append(f"{prefix.rstrip('.') or 'settings'}: {explain(error)}{where}")
        return None


def to_dict(config: Any) -> dict[str, Any]:  # any config dataclass
    """Turns a config into plain data that YAML, JSON and a checkpoint can hold."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return str(value) if isinstance(value, Path) else value

    return {key: plain(value) for key, value in dataclasses.asdict(config).items()}


def from_dict(cls: type[T], values: Mapping[str, Any], origin: str) -> T:
    """Builds a config from what `to_dict` returned."""
    return build(cls, {name: Given(value, origin) for name, value in flatten(values, cls)})


def flatten(values: Mapping[str, Any], cls: type) -> Iterator[tuple[str, object]]:
    """Lists nested values by dotted name.

    Raises:
        ConfigError: For a name that `cls` does not have.
    """
    known = settings(cls)

    def walk(inner: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
        for key, value in inner.items():
            name = prefix + key
            if name in known:
                yield name, value
            elif isinstance(value, Mapping) and any(path.startswith(f"{name}.") for path in known):
                yield from walk(value, f"{name}.")
            else:
                raise ConfigError(_unknown(name, known, "argument"))

    return walk(values, "")


def to_yaml(config: Any) -> str:  # any config dataclass
    """Writes a config as YAML that `read_yaml` takes back."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, default_flow_style=None)


def changed(old: T, new: T) -> dict[str, tuple[object, object]]:
    """Returns the settings in which two configs of one class differ, as (old, new)."""
    cls = type(old)
    before, after = (dict(flatten(to_dict(config), cls)) for config in (old, new))
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def describe(cls: type) -> str:
    """Lists every setting as help text: flag, default, docstring."""
    lines = []
    for name, setting in settings(cls).items():
        if setting.default is dataclasses.MISSING:
            default = "required"
        else:
            shown = to_plain_text(setting.default)
            default = f"default {shown}"
        lines.append(f"  --{name}  ({default})")
        lines.extend(
            textwrap.wrap(setting.doc, 92, initial_indent="      ", subsequent_indent="      ")
        )
    return "\n".join(lines)


def to_plain_text(value: object) -> str:
    """Writes a setting's value as a user would type it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


class Task(NamedTuple):
    """A command, as the command line needs to know it."""

    config: type
    """Its settings."""
    run: Callable[[Any], Any]
    """From the settings to a result."""
    positional: tuple[str, ...] = ()
    """Settings that bare arguments fill, in order; the last takes all that are left."""
    load: Callable[[dict[str, Given]], Any] | None = None
    """From what was given to the settings, where `build` is not all."""
