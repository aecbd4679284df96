"""What says how to install cytolite names a clone or a wheel, never a name that a stranger could register."""

import re
from pathlib import Path

import pytest

from cytolite.errors import how_to_install

ROOT = Path(__file__).parents[2]
KINDS = ("*.md", "*.py", "*.groovy", "*.toml", "Makefile", "Dockerfile.*", "*.html", "*.yml", "*.cff")
FOLDERS = ("src", "docs", "docker", "benchmarks", "tools", ".github")
FILES = [
    *(path for folder in FOLDERS for kind in KINDS for path in sorted((ROOT / folder).rglob(kind))),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "pyproject.toml", "Makefile")),
]
BY_NAME = re.compile(r"""(?:pip|pipx|uv|uvx|conda|mamba)\b[^\n;|#]*?[ '"]cytolite(?:\[|['" .,]|$)""", re.MULTILINE)


@pytest.mark.parametrize(
    "line", ["pip install cytolite", "pip install 'cytolite[train]'", "pip install -U cytolite.", "uvx cytolite"]
)
def test_what_is_looked_for_is_found(line):
    assert BY_NAME.search(line)


@pytest.mark.parametrize(
    "line", ["pip install '.[train]'", "/bin/pip install path-to-cytolite", "pip install FILE.whl"]
)
def test_what_is_right_is_let_be(line):
    assert not BY_NAME.search(line)


def test_nothing_is_installed_by_name():
    found = [f"{path}: {hit[0]}" for path in FILES for hit in BY_NAME.finditer(path.read_text("utf-8"))]
    assert found == []


def test_extras_that_are_named_exist():
    import tomllib

    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
    named = {
        extra
        for path in FILES
        for hit in re.finditer(r"pip install '\.\[([\w,]+)\]'", path.read_text("utf-8"))
        for extra in hit[1].split(",")
    }
    assert named
    assert named <= extras


def test_the_words_of_messages():
    assert how_to_install("train").count("[train]") == 2
    assert how_to_install(again=True).count("--force-reinstall") == 2
