"""Nothing leaves the machine: no reports of use, nothing kept for them, no packet on any network."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cytolite
from cytolite import runtime

ROOT = Path(__file__).parents[2]
# ONNX Runtime reports nothing where it believes to be tested, so the tests hide that they are tests.
TESTED = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "JENKINS_URL", "ORT_RUNNING_UNIT_TESTS")
HIDDEN = (*TESTED, "XDG_CACHE_HOME", *runtime.SWITCHES)
LOADED = "from cytolite.bundle import load_bundle; path = str(load_bundle('nuclei-light-int8').onnx_path); "
UNPROTECTED = "import onnxruntime; onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider']); "


def process(folder: Path, *command: object, **environment: str) -> list[Path]:
    """Run Python in a process with an empty home; return the files that it left there."""
    home = folder / "home"
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if k not in HIDDEN} | {"HOME": str(home)} | environment
    subprocess.run([sys.executable, *map(str, command)], cwd=folder, env=env, check=True, timeout=300)
    return [path for path in home.rglob("*") if path.is_file()]


def painted(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(90, 250, (128, 128, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return painted(tmp_path / "image.png")


@pytest.mark.parametrize("before", [None, "0", ""])
def test_segment_leaves_nothing_in_the_home_folder(tmp_path, image, before):
    environment = {} if before is None else {"ORT_DISABLE_TELEMETRY": before}
    options = ["--mpp", "0.25", "--tissue", "all", "--quiet"]
    assert process(tmp_path, "-m", "cytolite", "segment", image, "-o", tmp_path / "out", *options, **environment) == []
    assert (tmp_path / "out" / "image" / "run.json").is_file()


def test_the_test_before_can_fail(tmp_path):
    """ONNX Runtime on its own does leave something there, from version 1.29 on."""
    switched_on = "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '0'; "
    if not process(tmp_path, "-c", LOADED + switched_on + UNPROTECTED):
        pytest.skip("this version of ONNX Runtime, on this system, reports nothing")


PACKETS = """
import subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
# Whatever is sent anywhere arrives here, so that it is sent and counted.
subprocess.run(["ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo"], check=True)
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
lines = [line.split() for line in open("/proc/net/snmp") if line.startswith(("Udp:", "Tcp:"))]
counts = {head[0] + name: int(n) for head, row in zip(lines[::2], lines[1::2]) for name, n in zip(head[1:], row[1:])}
print(counts["Udp:OutDatagrams"] + counts["Tcp:ActiveOpens"])
"""


def packets(folder: Path, *command: object) -> int:
    """Run Python in a network of its own, where nobody answers; return how many packets and connections it tried."""
    env = {k: v for k, v in os.environ.items() if k not in HIDDEN} | {"HOME": str(folder)}
    try:
        done = subprocess.run(
            ["unshare", "--net", "--map-root-user", sys.executable, "-c", PACKETS, *map(str, command)],
            cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("needs unshare, which Linux has")
    if done.returncode and ("unshare:" in done.stderr or "RTNETLINK" in done.stderr or "'ip'" in done.stderr):
        pytest.skip(f"this system allows no network of one's own ({done.stderr.strip().splitlines()[-1]})")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


# Reports are sent some 10 s after the start, so the processes stay for longer.
SEGMENT = """
import sys, time
import cytolite
cytolite.segment(sys.argv[1], mpp=0.25, tissue="all")
time.sleep(20)
"""


@pytest.fixture(scope="module", autouse=True)
def packets_of_segment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[int]]:
    """Start it with the first test of the file: the others run while it waits."""
    folder = tmp_path_factory.mktemp("packets")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(packets, folder, "-W", "ignore", "-c", SEGMENT, painted(folder / "image.png"))


def test_segment_sends_no_packet(packets_of_segment):
    assert packets_of_segment.result() == 0


def test_a_packet_would_be_seen(tmp_path):
    look_up = "import socket\ntry: socket.getaddrinfo('example.org', 80)\nexcept OSError: pass"
    assert packets(tmp_path, "-c", look_up) > 0
    assert packets(tmp_path, "-c", "pass") == 0


def test_runtimes_are_imported_in_one_way():
    packages = "(onnxruntime|openvino)"
    other = re.compile(rf"^\s*(import|from) {packages}|import_module\([\"']{packages}", re.MULTILINE)
    files = [*Path(cytolite.__file__).parent.rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [p for p in files if p.name != "runtime.py" and other.search(p.read_text(encoding="utf-8"))] == []


def test_importing_cytolite_switches_reports_off_for_whatever_is_imported_next(tmp_path):
    code = "import cytolite, os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'; " + LOADED + UNPROTECTED
    assert process(tmp_path, "-c", code) == []


def test_too_late_is_said(tmp_path):
    code = (
        "import sys, types, warnings; sys.modules['onnxruntime'] = o = types.ModuleType('onnxruntime'); "
        "o.disable_telemetry_events = lambda: None; from cytolite import runtime; assert not runtime.is_quiet(); "
        "warnings.simplefilter('error'); runtime.onnx_runtime()"
    )
    with pytest.raises(subprocess.CalledProcessError):
        process(tmp_path, "-c", code)
    early = code.replace("import sys", "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; import sys", 1)
    (tmp_path / "home").rmdir()
    process(tmp_path, "-c", early.replace("not runtime", "runtime"))
