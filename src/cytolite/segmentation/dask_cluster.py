"""Clusters that a run can be on: processes of this machine, a scheduler that runs already, jobs of Slurm."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from distributed import Client, LocalCluster
from distributed.comm import connect as comm_to
from distributed.security import Security

from cytolite import machine
from cytolite.errors import UsageError
from cytolite.files import read_toml

_CLOSE_S, _ANSWER_S = 10.0, 10.0
# A job that has nothing to do is kept for a minute: the next slide may need it, and a queue takes longer.
_ADAPT_EVERY_S, _IDLE_TIMES = 5.0, 12


@contextmanager
def connect(cluster: str, jobs: int | None = None) -> Iterator[Client]:
    """Start a cluster, or connect to one that runs.

    Parameters
    ----------
    cluster : str
        ``local``, ``local:4`` (processes of this machine), ``tcp://host:8786`` (a scheduler that runs), ``slurm`` or
        ``slurm:settings.toml`` (jobs that Slurm starts; the file has what `dask_jobqueue.SLURMCluster` takes).
    jobs : int, optional
        At most so many jobs, or processes of this machine; jobs come and go with the work. One job, if not given.

    Raises
    ------
    UsageError
        If it is something else, the scheduler cannot be reached, or Slurm refuses the jobs.
    """
    kind, _, rest = cluster.partition(":")
    for name in ("distributed", "distributed.client"):  # what it says to programmers, by handlers of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    dask.config.set(
        {
            "distributed.comm.timeouts.connect": "10s",
            "distributed.scheduler.allowed-failures": 10,
            # Looks at all threads a hundred times a second, in each process: nobody looks at it here.
            "distributed.worker.profile.enabled": False,
        }
    )
    if jobs is not None and (kind in {"tcp", "tls"} or (kind == "local" and rest)):
        raise UsageError(f"--jobs {jobs} does not go with --cluster {cluster}, which says how many there are.")
    if kind == "local" and (not rest or (rest.isdecimal() and int(rest) > 0)):
        with _processes(int(rest or jobs or machine.cores())) as local, Client(local) as client:
            yield client
    elif kind in {"tcp", "tls"}:
        with _scheduler(cluster) as client:
            yield client
    elif kind == "slurm":
        with _slurm(Path(rest) if rest else None, jobs or 1) as client:
            yield client
    else:
        allowed = "local, local:N (from 1), tcp://HOST:PORT, slurm and slurm:SETTINGS.toml"
        raise UsageError(f"--cluster {cluster!r} is not known; allowed are {allowed}.")


@contextmanager
def _scheduler(address: str) -> Iterator[Client]:
    try:
        asyncio.run(_knock(address))
        client = Client(address, timeout=_ANSWER_S)
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        why = type(error).__name__
        raise UsageError(
            f"The scheduler {address} cannot be reached ({why}): is it running, and is the address right?"
        ) from None
    with client:
        yield client


async def _knock(address: str) -> None:
    """Raise what is wrong with an address; Dask waits for ever for the answer of a server that is none of its own."""
    security = Security().get_connection_args("client")
    comm = await asyncio.wait_for(comm_to(address, timeout=_ANSWER_S, **security), _ANSWER_S + 1)
    await comm.close()


@contextmanager
def _slurm(settings: Path | None, jobs: int) -> Iterator[Client]:
    from dask_jobqueue import SLURMCluster

    given = {"cores": 1, "memory": "4GB", **(read_toml(settings, "The settings of Slurm") if settings else {})}
    try:
        slurm = SLURMCluster(**given)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise UsageError(f"Slurm cannot be used with these settings ({error}).") from None
    with slurm:
        _try_submitting(slurm.job_script())
        slurm.adapt(minimum_jobs=1, maximum_jobs=jobs, interval=f"{_ADAPT_EVERY_S}s", wait_count=_IDLE_TIMES)
        with Client(slurm) as client:
            yield client


def _try_submitting(script: str) -> None:
    """Ask Slurm whether it would take a job: else a run would wait for jobs that never come."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
        file.write(script)
        file.flush()
        try:
            tried = subprocess.run(
                ["sbatch", "--test-only", file.name], capture_output=True, text=True, errors="replace", check=False
            )
        except OSError as error:
            raise UsageError(
                f"--cluster slurm needs the command sbatch, which cannot be run here ({error.strerror}): start "
                "cytolite on a host that submits jobs."
            ) from None
    if tried.returncode:
        said = "; ".join(line.partition("error: ")[2] or line for line in tried.stderr.splitlines() if line.strip())
        raise UsageError(f"Slurm refuses such a job ({said}): look at the settings, queue and memory above all.")


@contextmanager
def _processes(workers: int) -> Iterator[LocalCluster]:
    """Start workers of this machine, and end them for certain.

    Dask waits for ever for a worker that had died while it was being started.
    """
    before = set(multiprocessing.active_children())
    # Dask gives a process up for ever that is not back in 15 s, which starting takes on a machine that is busy.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"})
    local = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )
    try:
        yield local
    finally:
        try:
            local.close(timeout=_CLOSE_S)
        except TimeoutError:
            local.shutdown_on_close = False  # or the end of Python would wait once more
            for process in set(multiprocessing.active_children()) - before:
                if process.name.startswith("Dask Worker"):  # there may be others, of the user's
                    process.kill()
                    process.join()
