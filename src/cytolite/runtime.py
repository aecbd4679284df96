"""The one way to ONNX Runtime and OpenVINO, and what keeps packages from sending anything anywhere."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from typing import Any

# What each package looks for when it is imported. Set whatever was there before: nothing leaves the machine.
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on reports its use on Linux and macOS; "0" means that too
    "HF_HUB_DISABLE_TELEMETRY": "1",  # what fetched files are used for, told to the hub
}
_late = False


def keep_quiet() -> None:
    """Switch off what packages report of their use, for this process and those it starts.

    Called when `cytolite` is imported, before anything that could import ONNX Runtime: torchmetrics and timm do.
    """
    global _late  # noqa: PLW0603 - of the process, as the variables are
    _late |= "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY", "") in ("", "0")
    os.environ.update(SWITCHES)


def onnx_runtime(module: str = "") -> Any:
    """Return ONNX Runtime, or a module of it, imported so that it sends nothing.

    Parameters
    ----------
    module : str
        Such as ``"quantization"``; by default the package itself.

    Raises
    ------
    ImportError
        If it is not installed.

    Warns
    -----
    UserWarning
        If the program imported it before cytolite: what it reports then cannot be stopped any more.
    """
    keep_quiet()
    runtime = importlib.import_module("onnxruntime")
    runtime.disable_telemetry_events()  # Windows has a switch of its own
    if _late:
        warnings.warn(
            "ONNX Runtime was imported before cytolite and may report its use to its maker; "
            "import cytolite first, or set ORT_DISABLE_TELEMETRY=1.",
            stacklevel=2,
        )
    return importlib.import_module(f"onnxruntime.{module}") if module else runtime


def open_vino() -> Any:
    """Return OpenVINO, imported so that it sends nothing.

    On import it tells its maker so, unless the package that does the telling is not there: then it uses a stand-in of
    its own. To this process that package is never there.

    Raises
    ------
    ImportError
        If it is not installed.

    Warns
    -----
    UserWarning
        If the program imported it before cytolite.
    """
    if sys.modules.get("openvino_telemetry") is not None:
        warnings.warn(
            "OpenVINO was imported before cytolite and may report its use to its maker; import cytolite first.",
            stacklevel=2,
        )
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    return importlib.import_module("openvino")


def is_quiet() -> bool:
    """Whether ONNX Runtime was told in time to report nothing."""
    return not _late and all(os.environ.get(name) == value for name, value in SWITCHES.items())
