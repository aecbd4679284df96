"""The command answers at once: nothing heavy is imported before it is needed."""

import json
import subprocess
import sys

import pytest

MOST_MODULES = 600  # about 450 today; numpy alone would bring 150
HEAVY = {"numpy", "numba", "pyarrow", "onnxruntime", "torch", "shapely", "PIL", "openslide", "tifffile", "pydicom"}


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def help_of(arguments: str) -> str:
    return f"from cytolite.cli import main\ntry:\n    main({arguments!r}.split())\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize(
    "code",
    [
        "import cytolite",
        "import cytolite; cytolite.__version__",
        "import cytolite.cli",
        help_of("--help"),
        help_of("segment --help"),
        help_of("evaluate --help"),
        help_of("spatial --help"),
        help_of("--version"),
    ],
)
def test_nothing_heavy_is_imported(code):
    assert not modules_after(code) & HEAVY


def test_every_public_name_is_there():
    import cytolite

    assert len(cytolite.__all__) <= 25
    assert set(dir(cytolite)) == set(cytolite.__all__)
    for name in cytolite.__all__:
        assert getattr(cytolite, name) is not None
    with pytest.raises(AttributeError, match=r"attribute .?nothing"):
        cytolite.nothing  # noqa: B018


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_import_little(argument):
    # What makes a start slow is what it imports, which is counted: time depends on what else runs.
    code = help_of(argument) + "\nimport sys\nprint(len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < MOST_MODULES


def test_a_format_costs_no_other_format_its_start(tmp_path):
    from PIL import Image

    Image.new("RGB", (32, 32), "white").save(tmp_path / "a.png")
    code = f"from cytolite.slides.reader import open_slide\nopen_slide({str(tmp_path / 'a.png')!r}, 0.25)"
    assert not modules_after(code) & {"pydicom", "tifffile", "requests"}
