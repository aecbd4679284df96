"""Stand-ins with known answers: painted slides, a network that reads the paint, and slides made on the fly.

A painted pixel says what the network shall answer there: red and green are the flow (dx in red, dy in green), blue
is the class. White, which is also what lies outside a slide, is background.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from cytolite.bundle import Bundle, ModelSpec, described, write_bundle
from cytolite.celltypes import DEFAULT, N_TYPES, TypeSet
from cytolite.decoding import flows
from cytolite.patches import Patch

if TYPE_CHECKING:
    import onnx

# Blue of class 0 (background) to 7; far apart, and white is background.
CLASS_BLUE = np.array([255, 20, 50, 80, 110, 140, 170, 200], np.float32)


def class_blue(n_types: int) -> np.ndarray:
    """Return the blue of the classes of any number of types."""
    return CLASS_BLUE if n_types == N_TYPES else np.array([255, *np.linspace(20, 200, n_types)], np.float32).round()


def fake_bundle(
    folder: Path,
    mpp: float = 0.5,
    stride: int = 1,
    type_set: TypeSet = DEFAULT,
    embedding: np.ndarray | None = None,
    **spec: object,
) -> Bundle:
    """Write a bundle whose network reads flows and classes off every `stride`-th pixel of a painted image.

    Its embedding, if it has one, are products of the colours with `embedding`, float32 (channels, 3).
    """
    onnx = pytest.importorskip("onnx", reason="the stand-in for a network needs onnx, of the extra `train`")
    graph = _graph(stride, len(type_set))
    folder = Path(folder) / "fake"
    folder.parent.mkdir(parents=True, exist_ok=True)
    onnx_path = folder.parent / "fake.onnx"
    onnx.save(graph, onnx_path)
    settings = {
        "name": "fake", "version": "1", "mpp": mpp, "stride": stride, "mean": (0, 0, 0), "std": (1, 1, 1),
        "tile": 512, "halo": 64, "min_area_um2": 4.0, "licence": "CC0-1.0",
        **described(type_set),
    }  # fmt: skip
    part = b""
    if embedding is not None:
        part = _more(embedding)
        digest = hashlib.sha256(part).hexdigest()
        settings["embedding"] = {"channels": len(embedding), "source": "colours", "sha256": digest}
    return write_bundle(folder, onnx_path, ModelSpec(**(settings | spec)), "# fake\n", embedding=part)


def _more(weights: np.ndarray) -> bytes:
    """Return what makes a graph of `_graph` give the embedding too, when it is put behind it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = onnx.GraphProto(
        node=[helper.make_node("Conv", ["nchw", "colours"], ["embedding"])],
        initializer=[numpy_helper.from_array(weights[:, :, None, None], "colours")],
        output=[helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
    )
    return onnx.ModelProto(graph=graph).SerializeToString()


def _graph(stride: int, n_types: int) -> onnx.ModelProto:
    """Image -> float NCHW -> flows = (channels 1, 0 - 128) / 127; logits = -(blue - class's blue)^2 / 50, at least -20.

    The floor makes the odds of nucleus as steep on either side of an edge: refined outlines are the painted ones.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "grey": np.float32(128), "scale": np.float32(1 / 127), "dy_dx": np.array([1, 0], np.int64),
        "blue": np.array([2], np.int64), "classes": class_blue(n_types).reshape(1, -1, 1, 1),
        "sharp": np.float32(-1 / 50),
        "floor": np.float32(-20), "start": np.array([0, 0], np.int64), "end": np.array([2**31 - 1] * 2, np.int64),
        "axes": np.array([2, 3], np.int64), "step": np.array([stride] * 2, np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["all"], perm=[0, 3, 1, 2]),
        helper.make_node("Slice", ["all", "start", "end", "axes", "step"], ["nchw"]),
        helper.make_node("Gather", ["nchw", "dy_dx"], ["coded"], axis=1),
        helper.make_node("Sub", ["coded", "grey"], ["signed"]),
        helper.make_node("Mul", ["signed", "scale"], ["flows"]),
        helper.make_node("Gather", ["nchw", "blue"], ["b"], axis=1),
        helper.make_node("Sub", ["b", "classes"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["square"]),
        helper.make_node("Mul", ["square", "sharp"], ["steep"]),
        helper.make_node("Max", ["steep", "floor"], ["type_logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fake",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["b", "h", "w", 3])],
        [
            helper.make_tensor_value_info("flows", TensorProto.FLOAT, ["b", 2, "r", "c"]),
            helper.make_tensor_value_info("type_logits", TensorProto.FLOAT, ["b", n_types + 1, "r", "c"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def random_nuclei(
    rng: np.random.Generator, shape: tuple[int, int], n: int, radius: tuple[float, float] = (5.0, 11.0), gap: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return an instance map (int32) of up to `n` random ellipses apart, and the type of each id (index 0 = 0)."""
    instance_map = np.zeros(shape, np.int32)
    for number in range(1, n + 1):
        a, b = rng.uniform(*radius, 2)
        turn = rng.uniform(0, np.pi)
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        reach = int(max(a, b)) + 2 + gap
        top, left = max(0, int(y) - reach), max(0, int(x) - reach)
        window = instance_map[top : int(y) + reach + 1, left : int(x) + reach + 1]
        rows, columns = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]]
        u = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
        v = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
        inside = (u / a) ** 2 + (v / b) ** 2 <= 1
        around = (u / (a + gap)) ** 2 + (v / (b + gap)) ** 2 <= 1
        if inside.sum() >= 40 and not window[around | inside].any():
            window[inside] = number
    ids, inverse = np.unique(instance_map, return_inverse=True)
    instance_map = inverse.reshape(shape).astype(np.int32)
    types = np.concatenate([[0], rng.integers(1, N_TYPES + 1, len(ids) - 1)]).astype(np.uint8)
    return instance_map, types


def paint(instance_map: np.ndarray, types: np.ndarray, n_types: int = N_TYPES) -> np.ndarray:
    """Return the uint8 RGB image from which the fake network reads back `instance_map` and `types` (per id)."""
    dy, dx = flows.encode(instance_map)
    image = np.full((*instance_map.shape, 3), 255, np.uint8)
    inside = instance_map > 0
    image[inside, 0] = np.rint(dx[inside] * 127 + 128)
    image[inside, 1] = np.rint(dy[inside] * 127 + 128)
    image[inside, 2] = class_blue(n_types)[types[instance_map[inside]]]
    return image


def coloured_patch(name: str, source: str, seed: int) -> Patch:
    """Return a patch of dark discs of all types on pink ground, for training runs of seconds."""
    rng = np.random.default_rng(seed)
    instances = np.zeros((150, 140), np.int32)
    rows, cols = np.mgrid[:150, :140]
    for i in range(1, 20):
        y, x = rng.integers(8, 130, 2)
        instances[(rows - y) ** 2 + (cols - x) ** 2 < 64] = i
    image = np.where(instances[..., None] > 0, [90, 40, 120], [230, 190, 220]).astype(np.uint8)
    image += rng.integers(0, 20, image.shape).astype(np.uint8)
    types = np.where(instances > 0, instances % 7 + 1, 0).astype(np.uint8)
    return Patch(name, image, instances, types, 0.25, source, name)


def coloured_store(folder: Path, n: int, sources: Sequence[str] = ("consep",)) -> Path:
    """Write a store of `n` coloured patches of each source into a folder, and return it."""
    from cytolite.datasets.store import write_store  # needs the extra `train`

    path = folder / "s.h5"
    write_store(path, [coloured_patch(str(i), source, i) for source in sources for i in range(n)])
    return path


def write_slide(path: Path, image: np.ndarray, mpp: float = 0.5, levels: int = 1) -> Path:
    """Write a lossless tiled TIFF, pyramidal if `levels` > 1, that states its resolution."""
    per_cm = 1e4 / mpp
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "deflate", "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(image, subifds=levels - 1, resolution=(per_cm, per_cm), metadata=None, **options)
        for level in range(1, levels):
            factor = 2**level
            small = image[factor // 2 :: factor, factor // 2 :: factor]
            writer.write(small, subfiletype=1, resolution=(per_cm / factor,) * 2, metadata=None, **options)
    return Path(path)


class EndlessSlide:
    """A slide of any size that takes no disk: one painted image, repeated; same interface as `Slide`.

    Parameters
    ----------
    path : Path
        Some file, for its name, size and date.
    image : numpy.ndarray
        uint8 (h, w, 3), what is repeated.
    width_px, height_px : int
        Of the slide.
    mpp : float
        Of the slide.
    read_mpp : float, optional
        Of the image, if not that of the slide.
    """

    format, scene, notes, damaged = "fake", "", (), ()

    def __init__(
        self,
        path: Path,
        image: np.ndarray,
        width_px: int,
        height_px: int,
        *,
        mpp: float = 0.5,
        read_mpp: float | None = None,
    ) -> None:
        self.path, self._image, self.mpp, self.file_mpp = path, image, mpp, mpp
        self._read_mpp = read_mpp or mpp
        self.width_px, self.height_px = width_px, height_px

    def working_mpp(self, model_mpp: float) -> float:
        return self._read_mpp

    def read(self, x_px: float, y_px: float, width_px: int, height_px: int, mpp: float) -> np.ndarray:
        """Exact at `read_mpp`; of other resolutions, which overlook the slide, the nearest pixels."""
        scale, step = self._read_mpp / self.mpp, mpp / self._read_mpp
        rows, columns = (
            round(start / scale) + np.floor(step * (np.arange(n) + 0.5)).astype(int)
            for start, n in ((y_px, height_px), (x_px, width_px))
        )
        image = self._image[np.ix_(rows % len(self._image), columns % self._image.shape[1])]
        image[(rows < 0) | (rows >= self.height_px / scale)] = 255
        image[:, (columns < 0) | (columns >= self.width_px / scale)] = 255
        return image

    def thumbnail_scale(self, max_px: int) -> float:
        return max(1.0, max(self.width_px, self.height_px) / max_px)

    def thumbnail(self, max_px: int) -> np.ndarray:
        scale = self.thumbnail_scale(max_px)
        return np.full((int(self.height_px / scale) or 1, int(self.width_px / scale) or 1, 3), 240, np.uint8)

    def close(self) -> None:
        pass
