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

import cytolite
from cytolite import machine
from cytolite.errors import CytoliteError, how_to_install
from cytolite.qupath.install import extension_jar, installed, installed_version, python_file, read_python  # fmt: skip
from cytolite.qupath.preferences import USER_PATH, started_versions

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
    versions = started_versions()
    if not versions:
        yield Finding(
            "QuPath", "note", "no QuPath of version 0.5 or newer was started by this user",
            "To use cytolite in QuPath: cytolite qupath install.",
        )  # fmt: skip
        return
    for version, preferences in versions.items():
        yield _extension(f"QuPath {version}", preferences.get(USER_PATH, ""))
    yield _called_python()


def _extension(what: str, folder: str) -> Finding:
    """Look at what a QuPath loads when it starts: from the folder that its preferences name, and no other."""
    drag = f"Drag {extension_jar()} onto its window."
    if not folder:
        return Finding(what, "note", "it has no user directory yet, so it loads no extensions", drag)
    if not Path(folder).is_dir():
        return Finding(what, "note", f"its user directory {folder} is not there any more", drag)
    found = [installed_version(path) for path in installed(Path(folder))]
    if not found:
        return Finding(what, "note", f"{folder} has no extension of cytolite", "cytolite qupath install.")
    if found != [cytolite.__version__]:
        return Finding(
            what, "bad", f"{folder} has the extension {', '.join(found)}, this is cytolite {cytolite.__version__}",
            "cytolite qupath install.",
        )  # fmt: skip
    return Finding(what, "good", f"{folder} has the extension {found[0]}")


def _called_python() -> Finding:
    """Look at the Python that the extension calls."""
    what, mend = "QuPath's Python", "cytolite qupath install."
    python = read_python()
    if python is None:
        return Finding(what, "note", f"{python_file()} names none, so the extension asks for one", mend)
    if not Path(python).is_file():
        return Finding(what, "bad", f"the extension calls {python}, which is not there any more", mend)
    if Path(python) != Path(sys.executable):
        return Finding(
            what, "note", f"the extension calls another one, {python}",
            f"If it should be this one, {sys.executable}: cytolite qupath install.",
        )  # fmt: skip
    return Finding(what, "good", "the extension calls this one")


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
