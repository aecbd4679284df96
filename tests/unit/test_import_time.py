"""The command answers at once: nothing heavy is imported before it is needed."""

import json
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX's account of time")
@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_are_quick(argument):
    # 0.25 s of computing here. The time on the clock is no business of this test: it depends on what else runs.
    import resource

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    subprocess.run([sys.executable, "-m", "cytolite", argument], capture_output=True, check=True)
    assert spent() - before < 1.0
