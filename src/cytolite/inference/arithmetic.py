"""What a network runs in: which arithmetic, and so which runtime, by what the bundle holds and the processor has."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any, NamedTuple

from cytolite import machine
from cytolite.bundle import Bundle, load_bundle
from cytolite.config import Arithmetic, Precision
from cytolite.errors import BundleError, InputError, UsageError, first_line, how_to_install
from cytolite.runtime import onnx_runtime, open_vino

# What processors call bfloat16 of their own, without and with matrices; without it bf16 is slower than float32.
NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16"})


def choose(bundle: Bundle, wanted: Precision, device: str = "cpu") -> Arithmetic:
    """Return the arithmetic that a bundle's network runs in here.

    Parameters
    ----------
    bundle : Bundle
    wanted : {"auto", "float32", "bf16", "int8"}
        ``auto``: of a bundle of float32 bf16 where the processor has it and OpenVINO is installed, else float32.
    device : {"cpu", "cuda"}

    Raises
    ------
    UsageError
        If the bundle holds no such weights, or bf16 is wanted on a GPU.
    InputError
        If the runtime or the processor does not have it.
    """
    if is_int8(bundle):
        if wanted in ("auto", "int8"):
            return "int8"
        raise UsageError(
            f"The model {bundle.spec.name!r} is int8 and cannot run in {wanted}; use the one that it was made of."
        )
    if wanted == "int8":
        raise UsageError(
            f"The model {bundle.spec.name!r} is float32, and there is no {bundle.path.name}-int8 beside it: choose one "
            "of int8 (see `cytolite models`), or make one with `cytolite export --kind int8`."
        )
    if wanted == "auto":
        return "bf16" if device == "cpu" and not _lacks_bf16() else "float32"
    if wanted == "bf16":
        if device != "cpu":
            raise UsageError(f"bf16 runs on the processor alone, not on {device}; leave --device or --precision out.")
        if lack := _lacks_bf16():
            raise InputError(f"bf16 cannot be used: {lack}; leave --precision out.")
    return wanted


def _lacks_bf16() -> str:
    if not NATIVE_BF16 & machine.instruction_sets():
        return f"this processor does not have it, or does not say so ({' or '.join(sorted(NATIVE_BF16))} is needed)"
    if importlib.util.find_spec("openvino") is None:
        return f"it needs OpenVINO, {how_to_install('openvino')}"
    return ""


def is_int8(bundle: Bundle) -> bool:
    """Whether a bundle's network is an int8 variant: its graph names the operation that makes whole numbers."""
    return b"QuantizeLinear" in bundle.onnx_path.read_bytes()


def load_variant(name: str | Path | None, wanted: Precision) -> Bundle:
    """Load a bundle, or its int8 variant beside it, if int8 is wanted and the bundle is float32.

    Parameters
    ----------
    name : str or pathlib.Path, optional
        Of an embedded model, or the folder of a bundle; the default without it.
    wanted : Precision
        Arithmetic that was asked for.

    Raises
    ------
    BundleError
        If there is no such bundle, or it is damaged.
    """
    bundle = load_bundle(name)
    if wanted != "int8" or is_int8(bundle):
        return bundle
    beside = bundle.path.with_name(f"{bundle.path.name}-int8")
    return load_bundle(beside) if beside.is_dir() else bundle


def own_arithmetic(bundle: Bundle) -> Arithmetic:
    """Return what a bundle's weights are."""
    return "int8" if is_int8(bundle) else "float32"


def runtime_of(arithmetic: Precision) -> str:
    """Name the runtime, with its version, that runs a network in an arithmetic."""
    if arithmetic == "bf16":
        return f"OpenVINO {open_vino().__version__.split('-')[0]}"
    return f"ONNX Runtime {onnx_runtime().__version__}"


class Port(NamedTuple):
    """An input or an output as ONNX Runtime describes it; a side of any length is -1."""

    name: str
    type: str
    shape: list[int]


def _ports(ports: list[Any]) -> list[Port]:
    """Describe ports of OpenVINO, each under all of its names."""
    kinds = {"u8": "tensor(uint8)", "f32": "tensor(float)"}
    return [
        Port(name, kinds.get(kind, kind), [side.get_length() if side.is_static else -1 for side in port.partial_shape])
        for port in ports
        for kind in [port.element_type.get_type_name()]
        for name in sorted(port.names)
    ]


class OpenVinoSession:
    """A graph in OpenVINO, in bf16, with as much of the interface of ONNX Runtime's session as is used here.

    Parameters
    ----------
    graph : str or bytes
        File of the graph, or its content.
    threads : int
        Threads within one call; as many calls run at a time as cores allow.

    Raises
    ------
    BundleError
        If OpenVINO cannot load it.
    """

    def __init__(self, graph: str | bytes, threads: int = 1) -> None:
        streams = max(1, machine.cores() // threads)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads,
            "ENABLE_CPU_PINNING": False,
        }
        core = open_vino().Core()
        try:
            model = core.read_model(graph)
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load the model: {first_line(error)}.") from error
        self._here = threading.local()

    def get_inputs(self) -> list[Port]:
        """Return what the graph takes."""
        return _ports(self._compiled.inputs)

    def get_outputs(self) -> list[Port]:
        """Return what the graph gives."""
        return _ports(self._compiled.outputs)

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        """Return the outputs called `names`; may be called from several threads at a time.

        Parameters
        ----------
        names : list of str
            Of the outputs.
        feeds : dict
            Arrays by the inputs' names.
        """
        if not hasattr(self._here, "request"):
            self._here.request = self._compiled.create_infer_request()
        found = self._here.request.infer(feeds)
        return [found[name] for name in names]
