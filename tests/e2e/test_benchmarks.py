"""Every benchmark still runs; what it measures is not judged here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from qupath_session import NoGroovyError, groovy_jars

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("bench_*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_quick_mode_prints_numbers(script, tmp_path):
    if script.stem == "bench_decode":
        pytest.importorskip("cellpose", reason="the comparison needs cellpose")
    if script.stem == "bench_qupath":
        require_groovy()
    done = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"\d\.\d", done.stdout)
    assert not list(tmp_path.iterdir())  # nothing is written unless asked for


def require_groovy():
    try:
        groovy_jars()
    except NoGroovyError as reason:
        pytest.skip(str(reason))
