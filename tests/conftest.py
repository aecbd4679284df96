"""Fixtures that all tests share."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real H&E data beside the checkout; a user's clone has none, and the test is skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real data in ../shared/data, which are not part of the project")
    return SHARED_DATA
