"""Look at everything that cytolite needs, and say of each thing that is wrong how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cytolite import machine
from cytolite.errors import CytoliteError, how_to_install
from cytolite.qupath.install import installation, installed_python
from cytolite.qupath.preferences import startup_script, user_folders

PYTHONS = ((3, 11), (3, 14))  # from, to but without
FREE_GB = 5.0
_REINSTALL = "pip install --force-reinstall {0}, in the environment of {1}."


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes
    ----------
    what : str
        Name of the thing.
    state : str
        ``good``; ``note``: something works less well or a part cannot be used; ``bad``: cytolite cannot work.
    found : str
        What is there.
    mend : str
        What to do; empty where all is good.
    """

    what: str
    state: Literal["good", "note", "bad"]
    found: str
    mend: str = ""


def examine() -> Iterator[Finding]:
    """Look at one thing after the other, from what all the others need on."""
    for check in (_python, _compiler, _machine, _onnxruntime, _models, _openslide, _disk, _qupath, _java):
        yield from check()


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} at {sys.executable}"
    low, high = PYTHONS
    if low <= sys.version_info[:2] < high:
        yield Finding("Python", "good", found)
    else:
        yield Finding("Python", "bad", found, "Install Python 3.11 to 3.13, and cytolite into it.")


def _compiler() -> Iterator[Finding]:
    """Compile a function, and see where machine code is kept."""
    try:
        from cytolite.kernels import compile_one

        place = compile_one()
    except Exception as error:  # noqa: BLE001 - a compiler that is broken raises whatever it likes
        yield Finding("compiler", "bad", _first_line(error), _mend("numba llvmlite"))
        return
    if place is None:
        mend = "Set NUMBA_CACHE_DIR to a folder that can be written."
        yield Finding("compiler", "note", "works, but its code cannot be kept: each start takes longer", mend)
    else:
        yield Finding("compiler", "good", f"works, its code is kept in {place}")


def _machine() -> Iterator[Finding]:
    cores, free = machine.cores(), machine.free_memory()
    memory = "" if free is None else f", {free / 1e9:.1f} GB of memory free"
    yield Finding("machine", "good", f"{cores} core{'s' * (cores > 1)} may be used{memory}")


def _onnxruntime() -> Iterator[Finding]:
    def version() -> str:
        from cytolite.runtime import onnx_runtime

        onnxruntime = onnx_runtime()
        return f"{onnxruntime.__version__}, runs on {', '.join(_devices(onnxruntime.get_available_providers()))}"

    yield _importable("ONNX Runtime", "onnxruntime", version)
    from cytolite.runtime import is_quiet

    if is_quiet():
        yield Finding("privacy", "good", "ONNX Runtime's reports to its maker are off; nothing leaves this machine")
    else:
        yield Finding("privacy", "bad", "ONNX Runtime was loaded with its reports on", "Import cytolite before it.")


def _devices(providers: list[str]) -> list[str]:
    known = {"CPUExecutionProvider": "the processor", "CUDAExecutionProvider": "CUDA"}
    return [known[provider] for provider in providers if provider in known]


def _models() -> Iterator[Finding]:
    """Look at every embedded model; at the default one, if there is none."""
    from cytolite.bundle import embedded_names

    names: list[str | None] = [*embedded_names()]
    for name in names or [None]:
        yield from _model(name)


def _model(name: str | None) -> Iterator[Finding]:
    """Load an embedded model, which checks its hash, and run it once."""
    try:
        import numpy as np

        from cytolite.bundle import load_bundle
        from cytolite.inference.predictor import Predictor

        bundle = load_bundle(name)
        Predictor(bundle, "cpu").maps(np.full((1, 64, 64, 3), 255, np.uint8))
    except CytoliteError as error:
        yield Finding("model", "bad", str(error), f"Install cytolite again, {how_to_install(again=True)}.")
    except (ImportError, OSError, RuntimeError) as error:
        yield Finding("model", "bad", f"does not run: {_first_line(error)}", _mend("onnxruntime"))
    else:
        yield Finding("model", "good", f"{bundle.spec.name} {bundle.spec.version} in {bundle.path}: whole, and it runs")


def _openslide() -> Iterator[Finding]:
    def version() -> str:
        import openslide

        return f"{openslide.__library_version__} (Python package {openslide.__version__})"

    yield _importable("OpenSlide", "openslide-python openslide-bin", version)


def _importable(what: str, packages: str, version: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "good", version())
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # half there, or its library is not
        return Finding(what, "bad", _first_line(error), _mend(packages))


def _mend(packages: str) -> str:
    return _REINSTALL.format(packages, sys.executable)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


def _disk() -> Iterator[Finding]:
    places = dict.fromkeys((Path.cwd(), Path(tempfile.gettempdir())))
    for place in places:
        free_gb = shutil.disk_usage(place).free / 1e9
        found = f"{free_gb:.1f} GB free in {place}"
        if not os.access(place, os.W_OK):
            yield Finding("disk", "note", f"{place} cannot be written", "Write results to another folder (--output).")
        elif free_gb < FREE_GB:
            yield Finding("disk", "note", found, "Make room: a large slide needs a few GB while it is worked on.")
        else:
            yield Finding("disk", "good", found)


def _qupath() -> Iterator[Finding]:
    folders = user_folders()
    if not folders:
        yield Finding(
            "QuPath",
            "note",
            "no user folder of QuPath 0.5 or newer was found",
            "To use cytolite in QuPath: start QuPath once, then cytolite qupath install.",
        )
    for version, folder in folders.items():
        yield _scripts(version, folder)


def _scripts(version: str, folder: Path) -> Finding:
    what = f"QuPath {version}"
    python = installed_python(installation(folder, startup_script(version)))
    if python is None:
        return Finding(what, "note", f"{folder} has no scripts of cytolite", "cytolite qupath install.")
    if not Path(python).is_file():
        return Finding(
            what, "bad", f"its scripts call {python}, which is not there any more", "cytolite qupath install."
        )
    if Path(python) != Path(sys.executable):
        return Finding(
            what,
            "note",
            f"its scripts call another Python, {python}",
            f"If it should be this one, {sys.executable}: cytolite qupath install.",
        )
    return Finding(what, "good", f"scripts in {folder} call this Python")


def _java() -> Iterator[Finding]:
    java = shutil.which("java")
    if java is None:
        yield Finding("Java", "good", "none of its own; QuPath brings the one that it needs")
        return
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("Java", "note", f"{java} does not run ({error})", "Nothing, for QuPath brings its own.")
    else:
        yield Finding("Java", "good", f"{said.splitlines()[0] if said else 'there'}; QuPath brings its own")
