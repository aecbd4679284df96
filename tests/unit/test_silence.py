"""Other packages' notes are not the user's; their errors, and what cytolite says, are."""

import logging
import sys
import warnings

import pytest

from cytolite.cli.silence import silence_others


@pytest.fixture
def said(monkeypatch):
    """Return a function that warns and logs as a module would, and says which of it can be seen."""
    monkeypatch.setattr(sys, "warnoptions", [])
    loggers = [logging.getLogger(), logging.getLogger("cytolite")]
    levels = [logger.level for logger in loggers]

    def said(module: str) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            silence_others()
            for kind in (UserWarning, DeprecationWarning, FutureWarning):
                warnings.warn_explicit("hm", kind, f"{module}.py", 1, module=module)
        seen = [w.category.__name__ for w in caught]
        logger = logging.getLogger(module)
        return seen + [
            logging.getLevelName(n) for n in (logging.INFO, logging.WARNING, logging.ERROR) if logger.isEnabledFor(n)
        ]

    yield said
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize(
    "module", ["zarr.core", "torch.nn", "timm.models", "anndata", "lightning.pytorch.utilities.rank_zero"]
)
def test_others_say_errors_alone(said, module):
    assert said(module) == ["ERROR"]


def test_cytolite_and_a_gpu_that_fails_are_heard(said):
    assert said("cytolite.segmentation.run") == ["WARNING", "ERROR"]
    assert "UserWarning" in said("torch.cuda")
    assert "UserWarning" not in said("torch.cudas")


def test_who_asks_for_warnings_gets_them(monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        silence_others()
        warnings.warn_explicit("hm", UserWarning, "zarr.py", 1, module="zarr")
    assert len(caught) == 1
