"""Fixtures that all tests share."""

import os
import signal
from pathlib import Path

# Processes that tests start keep what they compile of Python too, whatever this one was told: each would do it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: more threads each would wait for each other
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import pytest

import cytolite  # noqa: F401 - before a test imports ONNX Runtime, which would send reports of its use else

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Without the real data much is skipped: then coverage is told, but there is no floor."""
    # A process in the background of a shell ignores Ctrl+C, and so would those that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    coverage = config.pluginmanager.getplugin("_cov")
    if coverage is not None and not SHARED_DATA.is_dir():
        coverage.options.cov_fail_under = 0


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real H&E data beside the checkout; a user's clone has none, and the test is skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real data in ../shared/data, which are not part of the project")
    return SHARED_DATA
