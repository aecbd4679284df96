"""The Dockerfile, as far as it can be checked without an engine: linted, what it names is there, its parts work."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cytolite.cli import app

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
FILE = DOCKER / "Dockerfile"


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


def test_the_linter_finds_none_here():
    done = hadolint(FILE)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_what_it_names_is_there_and_it_does_not_run_as_root():
    text = FILE.read_text()
    ignored = (ROOT / ".dockerignore").read_text().split()
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored  # everything else is kept out
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [asked] = re.findall(r"/src\[([\w,]+)\]", text)
    assert set(asked.split(",")) <= set(extras) - {"qupath"}  # GPL-3 is in a target of its own
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert [stage.split()[2] for stage in stages] == ["base", "qupath", "cytolite"]  # the last one is the default
    for stage in stages[:2]:
        assert re.findall(r"^USER (\S+)$", stage, re.MULTILINE)[-1] not in {"root", "0"}
    assert not re.search(r"qupath|paquo", stages[0].split("# With QuPath")[0], re.IGNORECASE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in text
    commands = re.findall(r"^#   (docker build .+?)$", text.replace(" \\\n#    ", ""), re.MULTILINE)
    page = (ROOT / "docs" / "how-to" / "docker.md").read_text().replace(" \\\n ", "")
    assert len(commands) == 3
    for command in commands:
        assert command in page


def test_every_dependency_has_a_pinned_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [x for x in (DOCKER / "constraints.txt").read_text().splitlines() if not x.startswith("#")]
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(x for name in ("serve", "viewer", "anndata", "report", "qupath") for x in extras[name]),
    ]
    missing = {re.split(r"[<>=!~\[; ]", x)[0].lower() for x in wanted} - pinned
    assert not missing, "make constraints.txt again: its first line says how"


def test_what_is_in_an_image_is_listed():
    done = subprocess.run([sys.executable, DOCKER / "sbom.py"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    by_name = {each["name"]: each for each in document["components"]}
    numpy = by_name["numpy"]
    assert numpy["purl"] == f"pkg:pypi/numpy@{__import__('numpy').__version__}"
    assert numpy["licenses"][0]["license"]["name"]
    assert all(re.match(r"pkg:(pypi|deb/debian)/[^@ ]+@[^ ]+$", each["purl"]) for each in document["components"])


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script of the image")
@pytest.mark.parametrize("writable", [True, False])
def test_the_entry_works_on_a_copy_of_what_was_compiled(tmp_path, writable):
    """With a read-only root and /tmp: a copy is made once; where it cannot be made, it is said and cytolite runs."""
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "index").write_text("compiled")
    cytolite = tmp_path / "cytolite"
    cytolite.write_text('#!/bin/sh\necho "cytolite $*"\n')
    cytolite.chmod(0o755)
    script = tmp_path / "entry.sh"
    script.write_text((DOCKER / "entrypoint.sh").read_text().replace("/opt/cytolite/numba", str(tmp_path / "opt")))
    cache = tmp_path / "tmp" / "numba" if not writable else tmp_path / "numba"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "NUMBA_CACHE_DIR": str(cache)}
    for _ in range(2):
        done = subprocess.run(
            ["sh", script, "segment", "a b.svs"], capture_output=True, text=True, env=environment, check=False
        )
        assert (done.returncode, done.stdout) == (0, "cytolite segment a b.svs\n")
        assert ("--tmpfs /tmp" in done.stderr) is not writable
    if writable:
        assert [path.name for path in cache.iterdir()] == ["index"]


def test_services_of_the_compose_file_are_commands():
    text = (DOCKER / "compose.yaml").read_text()
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    services = yaml.safe_load(text)["services"]
    assert set(services) == {"serve", "view"}
    for service in services.values():
        verb, *words = service["command"]
        assert app[verb].help
        known = {option for each in app[verb].assemble_argument_collection() for option in each.names}
        assert {word for word in words if word.startswith("--")} <= known
        assert (service["read_only"], service["cap_drop"], service["network_mode"]) == (True, ["ALL"], "host")
