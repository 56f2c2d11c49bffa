"""The code blocks of the documentation run as they stand, on drawn pictures."""

import re
import shlex
from pathlib import Path

import pytest

from drawn import drawn, encoded, put, write_pictures
from maekit.cli import main

REPOSITORY = Path(__file__).parents[1]
# A block marked `<!-- not run: reason -->` on the line before is left out.
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<kind>sh|python)\n(?P<text>.*?)```", re.S
)
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


@pytest.fixture
def place(tmp_path, monkeypatch):
    write_pictures(tmp_path / "photos", 24)
    for name in ("a.png", "b.png"):
        put(tmp_path / "photos" / name, encoded(drawn(50, 40, 32), "PNG"))
    for split in ("train", "test"):
        write_pictures(tmp_path / "labelled" / split, 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("maekit.pretraining.estimate._LOAD_SECONDS", 0.2)
    monkeypatch.setattr("maekit.pretraining.estimate._COMPUTE_SECONDS", 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks__run(page, place):
    ran = 0
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["reason"]:
            continue
        if block["kind"] == "python":
            exec(compile(block["text"], str(page), "exec"), {})  # our own documentation
            ran += 1
            continue
        for line in block["text"].splitlines():
            words = shlex.split(line, comments=True)
            if words:
                assert words[0] == "mae", line
                assert main(words[1:]) == 0, line
                ran += 1
    assert ran or page.name != "README.md"


@pytest.mark.parametrize("page", [*PAGES, *REPOSITORY.glob("*.md")], ids=lambda page: page.name)
def test_links__lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
