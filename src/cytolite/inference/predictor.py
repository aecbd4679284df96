"""Predictor: a bundle's network in ONNX Runtime, or in bf16 in OpenVINO, images to maps."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cytolite.bundle import SPEC_NAME, Bundle
from cytolite.config import Arithmetic, SegmentSettings
from cytolite.decoding.tta import mean_over_orientations
from cytolite.errors import BundleError, InputError, UsageError, first_line
from cytolite.inference.arithmetic import OpenVinoSession, choose
from cytolite.runtime import onnx_runtime
from cytolite.slides.tiles import ALIGN_PX

ort = onnx_runtime()
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Predictor:
    """One session, shared by all threads: `maps` may be called from several at a time.

    Parameters
    ----------
    bundle : Bundle
        Model to run.
    device : str
        ``"cpu"`` or ``"cuda"``.
    threads : int
        Threads within one call. One is best where several workers call at a time: they then never wait for
        each other, and results do not depend on how many there are.
    tta : int
        Test-time augmentation, 1, 4 or 8: images are shown in all rotations by right angles, and mirrored, and the
        maps are the mean. That is so many times slower, and somewhat better.
    arithmetic : {"float32", "bf16", "int8"}, optional
        What the network runs in, from `cytolite.inference.arithmetic.choose`; by default as the bundle's weights are.

    Raises
    ------
    InputError
        If the device cannot be used.
    BundleError
        If the weights are no network with the inputs and outputs of a bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cpu",
        threads: int = 1,
        tta: int = 1,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self.spec = bundle.spec
        self.device = device
        self.tta = tta
        self._bundle, self._threads, self._arithmetic = bundle, threads, arithmetic
        self._session = self._load(str(bundle.onnx_path))
        self._lock, self._with_embedding = threading.Lock(), None
        _check_graph(self._session, bundle)

    def _load(self, graph: str | bytes) -> Any:
        """Start a session of a graph, of a file or of bytes."""
        if self._arithmetic == "bf16":
            return OpenVinoSession(graph, self._threads)
        return _onnx_session(graph, self._bundle, self.device, self._threads)

    def maps(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the network.

        Parameters
        ----------
        images : numpy.ndarray
            uint8 (B, H, W, 3), RGB at the model's mpp; H and W are multiples of 32.

        Returns
        -------
        flows : numpy.ndarray
            float32 (B, 2, h, w), (dy, dx), about unit length inside nuclei; h and w are H and W over the model's
            stride.
        type_logits : numpy.ndarray
            float32 (B, types + 1, h, w); class 0 is background.

        Raises
        ------
        InputError
            If the images have another shape or dtype.
        BundleError
            If the maps are not of the size that the bundle's stride says.
        """
        flows, type_logits = self._maps(images, self._session, ("flows", "type_logits"))
        return flows, type_logits

    def maps_with_embedding(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Run the network, and return what `maps` returns, bit for bit, and the embedding.

        Returns
        -------
        flows, type_logits : numpy.ndarray
        embedding : numpy.ndarray
            float32 (B, channels, h / n, w / n), coarser than the maps by a whole number n.

        Raises
        ------
        InputError
            If the bundle gives no embeddings; and as `maps`.
        """
        self._bundle.channels(asked=True)
        with self._lock:
            if self._with_embedding is None:
                # Serialised graphs are merged by writing one after the other: the second one adds an output. The first
                # alone is what it would be without, so that nothing is paid by those who do not ask.
                parts = (self._bundle.onnx_path, self._bundle.embedding_path)
                self._with_embedding = self._load(b"".join(path.read_bytes() for path in parts))
        flows, type_logits, embedding = self._maps(images, self._with_embedding, ("flows", "type_logits", "embedding"))
        return flows, type_logits, embedding

    def _maps(self, images: NDArray[np.uint8], session: Any, names: tuple[str, ...]) -> tuple[NDArray[np.float32], ...]:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise InputError(f"Images are {images.dtype} {images.shape}; uint8 (B, H, W, 3) is needed.")
        if images.shape[1] % ALIGN_PX or images.shape[2] % ALIGN_PX:
            raise InputError(f"Images are {images.shape[1]} x {images.shape[2]}; multiples of {ALIGN_PX} are needed.")

        def run(oriented: NDArray[np.uint8], way: int) -> tuple[NDArray[np.float32], ...]:
            given = np.ascontiguousarray(oriented.transpose(0, 2, 3, 1))
            return tuple(session.run(list(names), {"image": given}))

        flows, type_logits, *others = mean_over_orientations(np, run, images.transpose(0, 3, 1, 2), self.tta)
        expected = tuple(side // self.spec.stride for side in images.shape[1:3])
        if flows.shape[2:] != expected or type_logits.shape[2:] != expected:
            raise BundleError(
                f"The model {self.spec.name!r} gives maps of {flows.shape[2]} x {flows.shape[3]} px where its stride "
                f"of {self.spec.stride} promises {expected[0]} x {expected[1]}: 'stride' in its {SPEC_NAME} is wrong."
            )
        return flows, type_logits, *others


@dataclass(frozen=True)
class Model:
    """A bundle and where it runs; its network is loaded when it is first used, once for all slides."""

    bundle: Bundle
    device: str = "cpu"
    tta: int = 1
    arithmetic: Arithmetic | None = None

    @classmethod
    def of(cls, bundle: Bundle, settings: SegmentSettings) -> Self:
        """Return a bundle as settings want it to run; raises what `choose` raises.

        Parameters
        ----------
        bundle : Bundle
            The model.
        settings : SegmentSettings
            Device, arithmetic and test-time augmentation.
        """
        arithmetic = choose(bundle, settings.precision, settings.device)
        return cls(bundle, settings.device, settings.tta, arithmetic)

    def as_set(self, settings: SegmentSettings) -> SegmentSettings:
        """Return settings that say what the network does run in, where they said ``auto``."""
        return settings.model_copy(update={"precision": self.arithmetic}) if self.arithmetic else settings

    @cached_property
    def predictor(self) -> Predictor:
        """The network; raises what `Predictor` raises."""
        return Predictor(self.bundle, self.device, tta=self.tta, arithmetic=self.arithmetic)


def _onnx_session(graph: str | bytes, bundle: Bundle, device: str, threads: int) -> Any:
    provider = _provider(device)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Planning one block for all activations takes twice the memory and is slower for images of this size.
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors only: warnings about the graph are no business of the user's
    # A waiting thread that spins would take a core from the workers that read and decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(graph, options, providers=[provider])
    except Exception as error:  # the runtime's errors share no other base
        raise BundleError(f"ONNX Runtime cannot load {bundle.onnx_path}: {first_line(error)}.") from error
    if session.get_providers()[0] != provider:
        raise InputError(
            "The CUDA device cannot be used: ONNX Runtime could not start it (driver, CUDA or cuDNN missing?); "
            "use --device cpu."
        )
    return session


def _provider(device: str) -> str:
    if device not in PROVIDERS:
        raise UsageError(f"There is no device {device!r}; allowed are {' and '.join(PROVIDERS)}.")
    if PROVIDERS[device] not in ort.get_available_providers():
        raise InputError(
            "The installed ONNX Runtime has no CUDA: install onnxruntime-gpu in its place, or use --device cpu."
        )
    return PROVIDERS[device]


def _check_graph(session: Any, bundle: Bundle) -> None:
    """The names, types and channel counts must be a bundle's, or the first tile would fail in the dark."""
    n_types = len(bundle.spec.network_types)
    inputs = {tensor.name: (tensor.type, tensor.shape) for tensor in session.get_inputs()}
    outputs = {tensor.name: (tensor.type, tensor.shape) for tensor in session.get_outputs()}
    fits = (
        list(inputs) == ["image"]
        and inputs["image"][0] == "tensor(uint8)"
        and len(inputs["image"][1]) == 4
        and all(
            name in outputs and outputs[name][0] == "tensor(float)" and outputs[name][1][1] == channels
            for name, channels in (("flows", 2), ("type_logits", n_types + 1))
        )
    )
    if not fits:
        raise BundleError(
            f"{bundle.onnx_path} is no nucleus model: it must take 'image' uint8 (B, H, W, 3) and give "
            f"'flows' float (B, 2, H, W) and 'type_logits' float (B, {n_types + 1}, H, W); it takes {inputs} and "
            f"gives {outputs}."
        )
