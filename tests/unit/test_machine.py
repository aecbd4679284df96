"""Cores and memory are what the process may use: control groups of both versions, as files of a made-up system."""

import os
from pathlib import Path

import pytest

from cytolite import machine

GB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Make a system of the given files; 8 cores and 16 GB are the host's."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)

    def make(groups: str, **files: str) -> None:
        contents = {"proc/self/cgroup": groups, "proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {16 * 2**20} kB\n"}
        for name, content in (contents | files).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return make


def test_this_machine():
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    free = machine.free_memory()
    assert free is None or free > 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
@pytest.mark.skipif(hasattr(os, "process_cpu_count"), reason="this Python counts by itself")
def test_affinity(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6})
    assert machine.cores() == 3


def test_no_groups_and_no_files(system, tmp_path):
    system("")
    assert (machine.cores(), machine.free_memory()) == (8, 16 * GB)
    (tmp_path / "proc" / "meminfo").unlink()
    (tmp_path / "proc" / "self" / "cgroup").unlink()
    assert (machine.cores(), machine.free_memory(), machine.workers(10**12)) == (8, None, 8)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 8), ("9900000 100000", 8)],
)
def test_quota_of_version_2(system, quota, cores):
    system("0::/\n", **{"cgroup/cpu.max": quota + "\n"})
    assert machine.cores() == cores


def test_the_narrowest_group_above_counts(system):
    system(
        "0::/a.slice/b.service\n",
        **{
            "cgroup/a.slice/cpu.max": "300000 100000\n",
            "cgroup/a.slice/b.service/cpu.max": "max 100000\n",
            "cgroup/a.slice/memory.max": f"{4 * GB}\n",
            "cgroup/a.slice/memory.current": f"{3 * GB}\n",
            "cgroup/a.slice/memory.stat": f"anon 5\ninactive_file {GB}\n",
            "cgroup/a.slice/b.service/memory.max": "max\n",
            "cgroup/a.slice/b.service/memory.current": "1\n",
        },
    )
    assert (machine.cores(), machine.free_memory()) == (3, 2 * GB)


@pytest.mark.parametrize("seen", ["", "/docker/abc"])
def test_version_1_in_a_container_that_sees_the_path_of_its_host(system, seen):
    """Mounted is the container's own folder, whatever path the process is told."""
    system(
        f"4:memory:{seen or '/'}\n3:cpu,cpuacct:{seen or '/'}\n0::/\n",
        **{
            "cgroup/cpu/cpu.cfs_quota_us": "250000\n",
            "cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "cgroup/memory/memory.limit_in_bytes": f"{2 * GB}\n",
            "cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
        },
    )
    assert (machine.cores(), machine.free_memory()) == (3, GB)


def test_version_1_without_limits(system):
    system(
        "4:memory:/\n3:cpu,cpuacct:/\n",
        **{
            "cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cgroup/memory/memory.usage_in_bytes": "5\n",
        },
    )
    assert (machine.cores(), machine.free_memory()) == (8, 16 * GB)


@pytest.mark.parametrize("content", ["", "garbage\n", "\xb2\n", "0 0\n", "100000\n"])
def test_files_that_say_nothing(system, tmp_path, content):
    system("0::/\nno colons\n::\n", **{"cgroup/cpu.max": content, "cgroup/memory.max": content})
    assert (machine.cores(), machine.free_memory()) == (8, 16 * GB)


@pytest.mark.parametrize(("each", "workers"), [(GB, 8), (3 * GB, 5), (40 * GB, 1), (0, 8)])
def test_memory_bounds_the_workers(system, each, workers):
    system("")
    assert machine.workers(each) == workers


def test_nobody_else_asks_the_system():
    """A count of the host's cores anywhere else would be wrong in a container."""
    package = Path(machine.__file__).parent
    asks = ("cpu_count", "getaffinity", "virtual_memory", "SC_NPROCESSORS", "SC_PHYS_PAGES")
    others = [path for path in package.rglob("*.py") if path.name != "machine.py"]
    assert not [path for path in others if any(word in path.read_text(encoding="utf-8") for word in asks)]
