"""What this process may use of the machine: fewer cores and less memory than the host has, in a container or a job."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

# Where the system tells; replaced in tests.
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many cores the process may use: by its affinity, and by the quota of its control groups.

    A quota of one and a half counts as two: one worker alone could not use it.
    """
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        allowed = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas())]))


def free_memory() -> int | None:
    """Return how many bytes the process may still take without swapping or being killed; ``None`` where unknown.

    The smaller of what the system says is available and of what the limits of its control groups leave; files that the
    system keeps in memory count as free, for it gives them up.
    """
    free = [*_system_memory(), *_memory_left()]
    return max(0, min(free)) if free else None


def workers(bytes_each: int) -> int:
    """Return how many workers run side by side: one a core, and no more than memory holds; at least one."""
    free = free_memory()
    return cores() if free is None else max(1, min(cores(), free // max(1, bytes_each)))


def instruction_sets() -> frozenset[str]:
    """Return what the processor can do, in Linux' words, such as ``"avx2"``; nothing where the system does not say."""
    for line in (_read(PROC / "cpuinfo") or "").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(flags.split())
    return frozenset()


def processor() -> str:
    """Return the processor's name as the system gives it; its architecture where it gives none."""
    for line in (_read(PROC / "cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _cpu_quotas() -> Iterator[float]:
    for folder in _groups(""):
        match (_read(folder / "cpu.max") or "").split():
            case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
                yield int(quota) / int(period)
    for folder in _groups("cpu"):
        used_us, every_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if used_us is not None and used_us > 0 and every_us:  # -1: no quota
            yield used_us / every_us


def _system_memory() -> Iterator[int]:
    for line in (_read(PROC / "meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _memory_left() -> Iterator[int]:
    names = {
        "": ("memory.max", "memory.current", "inactive_file"),
        "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }
    for controller, (limit_name, used_name, cached_name) in names.items():
        for folder in _groups(controller):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None:  # without a limit version 2 says "max", version 1 about 2**63
                yield limit - used + _field(folder / "memory.stat", cached_name)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the process's control group and of those above it.

    Parameters
    ----------
    controller : str
        Of version 1, such as ``"cpu"``; empty for version 2, where one tree has all.
    """
    root = CGROUP / controller
    for line in (_read(PROC / "self" / "cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and controller in controllers.split(","):
            # Inside a container the path may be the host's, which is not there: then its root is the container's own.
            own = root / path.lstrip("/")
            for folder in (own, *own.parents):
                if folder.is_dir():
                    yield folder
                if folder == root:
                    break


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _field(path: Path, name: str) -> int:
    """Return a number of a file of names and numbers, 0 if it is not there."""
    for line in (_read(path) or "").splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return 0
