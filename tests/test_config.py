from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from maekit.config import (
    Given,
    build,
    changed,
    describe,
    find_name,
    from_dict,
    given_python,
    given_text,
    read_yaml,
    settings,
    to_dict,
    to_yaml,
)
from maekit.errors import ConfigError
from maekit.pretraining.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    base_lr: float = 1e-3
    """Peak rate,
    over two lines."""
    size: tuple[int, int] = (4, 4)
    kind: Literal["tiny", "small"] | None = None

    def __post_init__(self):
        if self.base_lr < 0:
            raise ConfigError(f"base_lr must not be negative, got {self.base_lr}.")


@dataclass(frozen=True, kw_only=True)
class Outer:
    """All of it."""

    dir: Path
    """Where."""
    optim: Inner = field(default_factory=Inner)
    names: tuple[str, ...] = ()
    fast: bool = False


def written(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return path


def test_read_yaml__values_and_types(tmp_path):
    path = written(
        tmp_path,
        "dir: ~/x\noptim:\n  base_lr: 1e-4\n  size: 8\n  kind: small\nnames: [a]\nfast: true\n",
    )
    config = build(Outer, read_yaml(path, Outer))
    assert config.optim == Inner(base_lr=1e-4, size=(8, 8), kind="small")
    assert (config.names, config.fast) == (("a",), True)
    assert config.dir == Path("~/x").expanduser()


def test_read_yaml__every_mistake_at_once_with_its_line(tmp_path):
    path = written(tmp_path, "dir: x\noptim:\n  base_1r: 1\n  size: 1\n  size: 2\noptin: 3\n")
    with pytest.raises(ConfigError) as caught:
        read_yaml(path, Outer)
    lines = str(caught.value).splitlines()
    assert (
        f"Unknown setting 'optim.base_1r' ({path}, line 3). Did you mean 'optim.base_lr'?" in lines
    )
    assert f"'optim.size' is set twice ({path}, line 4 and {path}, line 5)." in lines
    assert any("'optin'" in line and "line 6" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1\n", "must hold settings"),
        ("dir: !!python/object:os.system x\n", "."),
    ],
)
def test_read_yaml__not_a_config(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        build(Outer, read_yaml(written(tmp_path, text), Outer))
    with pytest.raises(ConfigError, match="Cannot read the config"):
        read_yaml(tmp_path / "none.yaml", Outer)


def test_build__every_mistake_at_once_with_its_origin():
    given = {
        "optim.base_lr": Given("fast", "--base_lr"),
        "optim.kind": Given("smal", "a.yaml, line 2"),
        "fast": Given("yes", "--fast"),
    }
    with pytest.raises(ConfigError) as caught:
        build(Outer, given)
    assert str(caught.value).splitlines() == [
        "dir is required: give it as --dir or in the config file.",
        "optim.base_lr (--base_lr) must be a number, got 'fast'.",
        "optim.kind (a.yaml, line 2) must be one of tiny, small, got 'smal'; did you mean small?.",
        "fast (--fast) must be true or false, got 'yes'.",
    ]


def test_build__a_rule_names_section_and_origin():
    with pytest.raises(
        ConfigError, match=r"^optim: base_lr must not be .* \(optim\.base_lr: --optim\.base_lr\)"
    ):
        build(Outer, {"dir": Given("x", ""), "optim.base_lr": Given(-1, "--optim.base_lr")})


def test_find_name__full_last_part_or_dashes():
    assert find_name(Outer, "optim.base_lr", "--x") == "optim.base_lr"
    assert find_name(Outer, "base-lr", "--x") == "optim.base_lr"
    with pytest.raises(
        ConfigError,
        match=r"Unknown setting 'base_rl' \(--base_rl\)\. Did you mean 'optim\.base_lr'",
    ):
        find_name(Outer, "base_rl", "--base_rl")


def test_given_text__text_settings_keep_text():
    assert given_text("dir", "007", Outer, "--dir")[1].value == "007"
    assert given_text("base_lr", "1e-4", Outer, "")[1].value == "1e-4"
    assert given_text("kind", "none", Outer, "")[1].value is None
    assert given_text("fast", "true", Outer, "")[1].value is True


def test_given_python__names_and_sections():
    given = given_python({"dir": "x", "optim": {"size": [1, 2]}, "base_lr": 0.5}, Outer)
    assert build(Outer, given).optim == Inner(base_lr=0.5, size=(1, 2))
    with pytest.raises(ConfigError, match=r"Unknown setting 'optim.seize'"):
        given_python({"optim": {"seize": 1}}, Outer)


def test_to_yaml__is_read_back(tmp_path):
    config = Outer(dir=Path("a b"), optim=Inner(base_lr=1e-7, kind="tiny"), names=("x", "1"))
    assert build(Outer, read_yaml(written(tmp_path, to_yaml(config)), Outer)) == config
    assert from_dict(Outer, to_dict(config), "x") == config


def test_changed__by_name():
    old, new = Outer(dir=Path("a")), Outer(dir=Path("b"), optim=Inner(size=(1, 1)))
    assert changed(old, new) == {"dir": ("a", "b"), "optim.size": ([4, 4], [1, 1])}


def test_describe__one_source_for_help():
    text = describe(Outer)
    assert "--dir  (required)\n      Where." in text
    assert "--optim.base_lr  (default 0.001)\n      Peak rate, over two lines." in text
    assert list(settings(Outer)) == [
        "dir",
        "optim.base_lr",
        "optim.size",
        "optim.kind",
        "names",
        "fast",
    ]


def test_given_python__a_file_under_what_is_given(tmp_path):
    given = given_python({"config": "mae_pretrain_smoke", "epochs": 7}, PretrainConfig)
    assert given["train.epochs"].value == 7
    assert "model.patch_size" in given
