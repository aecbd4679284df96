"""What a network runs in: chosen by bundle, processor and what is installed; recorded; and nothing is sent."""

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cytolite import machine
from cytolite.bundle import load_bundle
from cytolite.config import SegmentSettings
from cytolite.errors import InputError, UsageError
from cytolite.inference import arithmetic
from cytolite.inference.arithmetic import NATIVE_BF16, choose, is_int8, load_variant
from cytolite.inference.predictor import Model, Predictor
from cytolite.segmentation.run import _differences

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="needs the extra `openvino`")
needs_bf16 = pytest.mark.skipif(
    not (HAS_OPENVINO and NATIVE_BF16 & machine.instruction_sets()),
    reason="needs the extra `openvino` and a processor with bfloat16",
)


@pytest.fixture
def here(monkeypatch):
    """Pretend what the processor has and whether OpenVINO is installed."""

    def pretend(*instructions: str, openvino: bool = True) -> None:
        monkeypatch.setattr(machine, "instruction_sets", lambda: frozenset(instructions))
        find = importlib.util.find_spec
        monkeypatch.setattr(
            arithmetic.importlib.util,
            "find_spec",
            lambda name: (object() if openvino else None) if name == "openvino" else find(name),
        )

    return pretend


@pytest.fixture(scope="module")
def light():
    return load_bundle("nuclei-light")


@pytest.fixture(scope="module")
def int8():
    return load_bundle("nuclei-light-int8")


@pytest.mark.parametrize(
    ("instructions", "openvino", "device", "found"),
    [
        (("avx2",), True, "cpu", "float32"),
        (("avx512_bf16",), True, "cpu", "bf16"),
        (("amx_bf16", "avx512_bf16"), True, "cpu", "bf16"),
        (("avx512_bf16",), False, "cpu", "float32"),
        (("avx512_bf16",), True, "cuda", "float32"),
        ((), True, "cpu", "float32"),
    ],
)
def test_auto_takes_what_the_processor_has(here, light, int8, instructions, openvino, device, found):
    here(*instructions, openvino=openvino)
    assert choose(light, "auto", device) == found
    assert choose(light, "float32", device) == "float32"
    assert choose(int8, "auto", device) == "int8"


@pytest.mark.parametrize(
    ("instructions", "openvino", "error", "words"),
    [
        (("avx2",), True, InputError, "this processor does not have it"),
        ((), True, InputError, "does not say so"),
        (("avx512_bf16",), False, InputError, r"pip install '\.\[openvino\]'"),
    ],
)
def test_bf16_says_what_is_missing(here, light, instructions, openvino, error, words):
    here(*instructions, openvino=openvino)
    with pytest.raises(error, match=words):
        choose(light, "bf16")


def test_what_a_model_cannot_be_is_refused(here, light, int8):
    here("avx512_bf16")
    for wanted in ("float32", "bf16"):
        with pytest.raises(UsageError, match="is int8 and cannot run in"):
            choose(int8, wanted)
    with pytest.raises(UsageError, match="nuclei-light-int8 beside it"):
        choose(light, "int8")
    with pytest.raises(UsageError, match="not on cuda"):
        choose(light, "bf16", "cuda")


def test_int8_is_the_variant_beside_the_model(light, int8, tmp_path):
    assert is_int8(int8)
    assert not is_int8(light)
    assert load_variant("nuclei-light", "int8").sha256 == int8.sha256
    assert load_variant("nuclei-light-int8", "int8").sha256 == int8.sha256
    assert load_variant("nuclei-light", "auto").sha256 == light.sha256
    alone = tmp_path / "mine"
    alone.mkdir()
    for file in light.path.iterdir():
        (alone / file.name).write_bytes(file.read_bytes())
    assert load_variant(alone, "int8").sha256 == light.sha256


def test_a_result_in_another_arithmetic_is_another_result(light, tmp_path):
    """Those from before it was recorded were made in the weights' own."""
    model = Model(light, arithmetic="float32")
    record = {"settings": SegmentSettings(precision="float32").model_dump(mode="json"), "roi_sha256": None}
    for settings, others in (({}, []), ({"precision": "bf16"}, ["precision"]), (None, [])):
        if settings is None:
            del record["settings"]["precision"]
        else:
            record["settings"] |= settings
        (tmp_path / "run.json").write_text(json.dumps(record))
        assert [name for name in _differences(tmp_path, model, SegmentSettings()) if name != "model"] == others


def images(n: int) -> np.ndarray:
    """Tissue-like: smooth blobs, purple on pink."""
    rng = np.random.default_rng(0)
    blobs = rng.random((n, 12, 12, 1)).repeat(16, 1).repeat(16, 2)
    return np.clip(np.array([230, 180, 210]) - blobs * np.array([120, 130, 60]), 0, 255).astype(np.uint8)


@needs_bf16
def test_bf16_says_nearly_the_same_whoever_asks(light):
    predictor = Predictor(light, arithmetic="bf16")
    given = images(6)[:, None]
    wanted = [np.concatenate(Predictor(light).maps(one), 1) for one in given]
    with ThreadPoolExecutor(3) as pool:
        together = [np.concatenate(maps, 1) for maps in pool.map(predictor.maps, given)]
    for one, found, exact in zip(given, together, wanted, strict=True):
        np.testing.assert_array_equal(found, np.concatenate(predictor.maps(one), 1))
        assert found.dtype == np.float32
        assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.999
        assert not np.array_equal(found, exact)


@needs_bf16
def test_a_graph_that_is_no_nucleus_model_is_refused_in_bf16_too(light, tmp_path):
    from cytolite.errors import BundleError

    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="OpenVINO cannot load"):
        Predictor(replace(light, path=tmp_path), arithmetic="bf16")


LOADED = "from cytolite.runtime import open_vino; import sys; open_vino(); "


@needs_openvino
@pytest.mark.parametrize("load", [LOADED, "import openvino, sys; "])
def test_openvino_tells_nobody_of_its_use(tmp_path, load):
    """On its own it does: the second case shows that the first can fail."""
    code = (
        load
        + "print(sys.modules.get('openvino_telemetry') is not None, *sorted(m for m in sys.modules if m == 'requests'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"HOME": str(tmp_path), **_path()}
    )
    reports = found.stdout.split()[0] == "True"
    assert reports == (load is not LOADED)
    if load is LOADED:
        assert not list(tmp_path.rglob("*"))


def _path() -> dict[str, str]:
    import os

    return {name: os.environ[name] for name in ("PYTHONPATH", "PATH") if name in os.environ}
