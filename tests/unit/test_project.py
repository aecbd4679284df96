"""The project's own promises: what is written in two places is the same, and CI takes nothing that others can move."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_table_in_contributing_is_the_list_of_layers():
    [layers] = [c["layers"] for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = text.split("| rooms | what |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    table = [set(re.findall(r"`(\w+)`", row.split("|")[1])) for row in rows]
    assert table == [set(re.findall(r"\w+", layer)) for layer in layers]


def test_every_module_is_in_the_list_of_layers():
    [layers] = [c["layers"] for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    there = {path.stem for path in (ROOT / "src" / "cytolite").glob("*.py")}
    there |= {path.parent.name for path in (ROOT / "src" / "cytolite").glob("*/__init__.py")}
    assert {name for layer in layers for name in re.findall(r"\w+", layer)} == there - {"__init__", "__main__"}


def test_the_rooms_without_torch_are_all_but_those_that_need_it_and_their_callers():
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    [layers] = [c["layers"] for c in contracts if c["type"] == "layers"]
    [without] = [c["source_modules"] for c in contracts if "torch" in c.get("forbidden_modules", ())]
    rooms = {name for layer in layers for name in re.findall(r"\w+", layer)}
    # The last three call the four rooms from inside functions, which the linter takes for imports.
    assert rooms - {m.removeprefix("cytolite.") for m in without} == {
        "networks", "training", "relabel", "release", "pipeline", "api", "cli",
    }  # fmt: skip


def test_the_changelog_is_cut_into_releases():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    released = [re.fullmatch(r"(\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)", heading) for heading in headings[1:]]
    assert headings[0] == "Unreleased"
    assert released
    assert all(released), headings
    versions, dates = ([r[i] for r in released] for i in (1, 2))
    assert versions == sorted(versions, key=Version, reverse=True)
    assert dates == sorted(dates, reverse=True)
    # The version is that of the newest release, or is on its way to the next one.
    version = Version(PROJECT["project"]["version"])
    assert str(version) == versions[0] or (version.is_devrelease and version > Version(versions[0]))


def test_the_version_is_written_in_one_place():
    version = PROJECT["project"]["version"]
    files = [
        *ROOT.glob("*.cff"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("src/**/*.py"),
        *(path for path in ROOT.glob("docker/*") if path.name != "Dockerfile"),  # its label is held by test_docker
        ROOT / "mkdocs.yml",
    ]
    assert [
        path.name for path in files if re.search(rf"(?<![\d.]){re.escape(version)}(?![\d])", path.read_text())
    ] == []
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_may_do_little(workflow):
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: *(\S+)(.*)$", text, re.MULTILINE)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40}", action), action
        assert re.search(r"# v\d+\.\d+\.\d+$", comment), f"{action}: which release is it?"
    assert re.search(r"^permissions:", text, re.MULTILINE)
    assert re.search(r"^concurrency:", text, re.MULTILINE)
    assert "write-all" not in text
    # The one right to write: asking the package index for leave to publish.
    assert set(re.findall(r"([\w-]+): write", text)) == ({"id-token"} if workflow.stem == "release" else set())


def test_the_same_commit_of_an_action_everywhere():
    used = {}
    for workflow in WORKFLOWS:
        for name, commit in re.findall(r"uses: *([^@\s]+)@(\w+)", workflow.read_text(encoding="utf-8")):
            used.setdefault(name, set()).add(commit)
    assert {name for name, commits in used.items() if len(commits) > 1} == set()


def test_the_lock_holds_what_the_project_asks_for():
    lines = (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    asked = [*PROJECT["project"]["dependencies"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        asked += extra
    for requirement in map(Requirement, asked):
        if requirement.name in {"torch", "torchvision"}:  # which build fits depends on the machine
            continue
        found = [r for r in locked if canonicalize_name(r.name) == canonicalize_name(requirement.name)]
        assert found, f"make lock: {requirement.name} is not in .ci/constraints.txt"
        for lock in found:
            assert not lock.extras
            [pin] = lock.specifier
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version), f"make lock: {requirement} is locked to {pin}"
