"""What a bundle needs on this machine: memory for a batch, and how fast its network is.

Run as a program, ``python -m cytolite.inference.profile BUNDLE``, so that the peak of memory is the network's alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cytolite.bundle import Bundle, load_bundle
from cytolite.errors import CytoliteError
from cytolite.inference.predictor import Predictor

# The paper's Table 4: 32 images of 256 x 256 px at a time.
BATCH, SIDE_PX = 32, 256
REPEATS = 3


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes
    ----------
    memory_mb : float or None
        Growth of the process's peak memory (resident set) by loading the network and running one batch, MB of 2**20
        bytes; None where the system does not tell (Windows).
    mm2_per_s : float
        Tissue per second that the network takes on one thread, median of three runs; reading and decoding not counted.
    """

    memory_mb: float | None
    mm2_per_s: float


def measure(bundle: Bundle) -> Measured:
    """Measure a bundle in a process of its own.

    Raises
    ------
    CytoliteError
        If that process fails, for want of memory for example.
    """
    command = [sys.executable, "-m", "cytolite.inference.profile", str(bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        raise CytoliteError(f"{bundle.spec.name} could not be measured: {reason.rstrip('.')}.")
    return Measured(**json.loads(done.stdout))


def measure_here(bundle: Bundle) -> Measured:
    """Measure a bundle in this process, which should have done nothing else."""
    before = _peak_mb()
    predictor = Predictor(bundle)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    predictor.maps(images)
    after = _peak_mb()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        predictor.maps(images[:4])
        seconds.append(time.perf_counter() - start)
    area_mm2 = 4 * (SIDE_PX * bundle.spec.mpp / 1000) ** 2
    memory = after - before if after is not None and before is not None else None
    return Measured(memory, area_mm2 / float(np.median(seconds)))


def _peak_mb() -> float | None:
    # On Linux `resource` would tell the peak of the process that started this one, if that was larger.
    status = Path("/proc/self/status")
    if status.exists():
        return next(
            int(line.split()[1]) / 2**10 for line in status.read_text().splitlines() if line.startswith("VmHWM")
        )
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    print(json.dumps(asdict(measure_here(load_bundle(Path(sys.argv[1]))))))
