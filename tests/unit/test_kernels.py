"""Compiled functions work where machine code can be kept, and where it cannot."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cytolite
from cytolite import doctor, kernels

MODULE = """
from cytolite.kernels import kernel

@kernel
def inner(x):
    return x + 1

@kernel
def outer(x):
    return 2 * inner(x)
"""
NOWHERE = os.devnull + "/nowhere"  # below a file: not even root can make it


def start(folder: Path, code: str = "pass", **environment: str) -> subprocess.CompletedProcess:
    """Import and use the module in a new process."""
    code = f"import m; {code}; print(m.outer(20), m.outer.stats.cache_path, sum(m.outer.stats.cache_hits.values()))"
    return subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=100,
        env={k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | environment,
    )  # fmt: skip


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def read_only(installed: Path) -> Path:
    """A package beside which nothing can be kept, whoever tries."""
    (installed / "__pycache__").write_text("a file")
    return installed


def test_what_was_compiled_is_found_by_the_next_process(installed):
    hits = [start(installed).stdout.split() for _ in range(2)]
    assert [found[2] for found in hits] == ["0", "1"]
    assert {found[1] for found in hits} == {str(installed / "__pycache__")}


def test_kept_code_is_used_without_making_the_compiler_ready(installed):
    """And what is compiled afterwards, the caller of a function whose code was kept among it, is right."""
    start(installed)
    code = (
        "import numpy as np, sys; from cytolite.kernels import kernel; m.outer(1); "
        "print('numba.np.linalg' in sys.modules, end=' '); "
        "new = kernel(lambda x: np.zeros(3).sum() + m.outer(x)); print(new(20), 'numba.np.linalg' in sys.modules)"
    )
    assert start(installed, code).stdout == f"False 42.0 True\n42 {installed / '__pycache__'} 1\n"


def test_a_numba_that_loads_otherwise_is_left_to_it(installed):
    start(installed)
    other = (
        "import numba.core.caching as c; c.Cache.load_overload = lambda self, s, t: c.Cache._other(self, s, t); "
        "c.Cache._other = c.Cache._load_overload; del c.Cache._load_overload"
    )
    assert start(installed, other).stdout.split()[2] == "1"


def test_a_read_only_installation_uses_the_home_folder(read_only, tmp_path):
    done = start(read_only, HOME=str(tmp_path / "home"), XDG_CACHE_HOME=str(tmp_path / "home" / "c"))
    assert done.stdout.startswith(f"42 {tmp_path / 'home' / 'c'}")
    assert done.stderr == ""


def test_no_place_at_all_is_slower_and_said_once(read_only):
    done = start(read_only, HOME=NOWHERE, XDG_CACHE_HOME=NOWHERE, NUMBA_CACHE_DIR=NOWHERE)
    assert done.stdout == "42 None 0\n"
    assert len(done.stderr.splitlines()) == 1
    assert "works, but starts slower" in done.stderr
    assert "NUMBA_CACHE_DIR" in done.stderr


def test_a_wrong_place_is_passed_over_for_a_good_one(installed):
    done = start(installed, NUMBA_CACHE_DIR=NOWHERE)
    assert done.stdout == f"42 {installed / '__pycache__'} 0\n"


def test_a_disk_that_is_full_when_the_code_is_kept(installed):
    full = (
        "import numba.core.caching as c; "
        "c.IndexDataCacheFile.save = lambda *_: open('/dev/full', 'w').write('x' * 9999)"
    )
    done = start(installed, full)
    assert done.stdout.startswith("42 ")
    assert len(done.stderr.splitlines()) == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize("content", [b"", b"cut off", None])
def test_a_damaged_file_of_code_is_made_anew(installed, content):
    start(installed)
    for path in (installed / "__pycache__").glob("m.*.nb[ic]"):
        path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    again, then = start(installed), start(installed)
    assert (again.stdout.split()[0], again.stderr) == ("42", "")
    assert then.stdout.split()[2] == "1"


def test_every_compiled_function_goes_through_the_decorator():
    package = Path(cytolite.__file__).parent
    other = re.compile(r"njit|import numba|from numba import|numba\.(jit|vectorize|guvectorize|cfunc)")
    found = [p for p in package.rglob("*.py") if p.name != "kernels.py" and other.search(p.read_text(encoding="utf-8"))]
    assert found == []


def test_compiled_functions_close_over_nothing():
    """One that is made within a function could not be found again: each start would compile and keep another."""
    for path in Path(cytolite.__file__).parent.rglob("*.py"):
        assert not re.search(r"^[ \t]+@kernel\b", path.read_text(), re.MULTILINE), path


@pytest.mark.slow
def test_a_second_start_compiles_no_flows(tmp_path):
    code = (
        "import numpy as np\n"
        "from cytolite.decoding import cellpose, flows\n"
        "labels = np.zeros((40, 40), np.int32); labels[10:30, 10:30] = 1\n"
        "for decode in (flows.decode, cellpose.decode_like_cellpose):\n"
        "    assert (decode(flows.encode(labels), labels > 0) == labels).all()\n"
    )
    kept = []
    for _ in range(2):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=200)
        kept.append({(path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.nbc")})
    assert kept[0] == kept[1] != set()


def test_doctor_compiles_and_says_where_the_code_is(monkeypatch):
    [finding] = doctor._compiler()
    assert (finding.state, finding.what) == ("good", "compiler")
    assert "__pycache__" in finding.found or "numba" in finding.found
    monkeypatch.setattr(kernels, "compile_one", lambda: None)
    [finding] = doctor._compiler()
    assert (finding.state, "NUMBA_CACHE_DIR" in finding.mend) == ("note", True)

    def broken():
        raise RuntimeError("no LLVM")

    monkeypatch.setattr(kernels, "compile_one", broken)
    [finding] = doctor._compiler()
    assert (finding.state, "no LLVM" in finding.found) == ("bad", True)
