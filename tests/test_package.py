"""What installing and importing costs."""

import importlib.metadata
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

import maekit


def installed_with(name, seen):
    """Adds the packages that come with a package on this machine, extras left out."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return seen
    seen.add(key)
    for text in importlib.metadata.requires(key) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            installed_with(requirement.name, seen)
    return seen


def test_core__at_most_20_packages_beside_torch():
    torch_needs = installed_with("torchvision", installed_with("torch", set()))
    ours = installed_with("maekit", set()) - torch_needs
    assert len(ours) <= 20, sorted(ours)


def test_import__under_a_tenth_of_a_second():
    code = (
        "import time; start = time.perf_counter(); import maekit; took = time.perf_counter() - start\n"
        "import sys; assert 'torch' not in sys.modules; print(took)"
    )
    seconds = [
        float(
            subprocess.run(
                [sys.executable, "-P", "-c", code], check=True, capture_output=True
            ).stdout
        )
        for _ in range(3)
    ]
    assert min(seconds) < 0.1


@pytest.mark.parametrize("name", maekit.__all__)
def test_public__every_name_is_there(name):
    assert getattr(maekit, name) is not None
    assert name in dir(maekit)


def test_public__others_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        maekit.nothing  # noqa: B018
