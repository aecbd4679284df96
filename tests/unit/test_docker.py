"""The Dockerfiles, as far as they can be checked where no Docker engine runs: linted, and what they name is there."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("Dockerfile.*"))


def hadolint(path: Path) -> subprocess.CompletedProcess:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("needs hadolint")
    return subprocess.run([program, "--no-color", str(path)], capture_output=True, text=True, check=False)


def test_the_linter_finds_faults(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN apt-get install curl\n")
    done = hadolint(tmp_path / "Dockerfile")
    assert done.returncode != 0
    assert "DL3006" in done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_the_linter_finds_none_here(file):
    done = hadolint(file)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_what_it_names_is_there_and_it_does_not_run_as_root(file):
    text = file.read_text()
    ignored = (ROOT / ".dockerignore").read_text().split()
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored  # everything else is kept out
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [asked] = re.findall(r"/src\[([\w,]+)\]", text)
    assert set(asked.split(",")) <= set(extras)
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1] not in {"root", "0"}
    assert 'ENTRYPOINT ["cytolite"]' in text
    assert f"docker build -f docker/{file.name} " in (ROOT / "docs" / "how-to" / "docker.md").read_text()


def test_both_are_there():
    assert [file.name for file in FILES] == ["Dockerfile.cpu", "Dockerfile.cuda"]
