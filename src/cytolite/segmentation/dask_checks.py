"""What the client of a cluster asks its workers before any work: version, model, and whether they see the output."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from distributed import Client, Worker, WorkerPlugin
from filelock import FileLock, Timeout

from cytolite.bundle import EMBEDDING_NAME, ONNX_NAME, SPEC_NAME, Bundle
from cytolite.errors import BundleError, InputError, OutputError
from cytolite.files import whole_folder
from cytolite.segmentation.expected import Expected

_WAIT_S, _JOBS_WAIT_S = 30.0, 24 * 3600.0
# Of a model that is sent: the scheduler keeps it for workers that come later.
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class Seen:
    """What a worker finds on its host.

    Attributes
    ----------
    host : str
    complaint : str
        What is wrong; empty if nothing.
    output : bool
        Whether it sees the output.
    lacks : tuple of Expected
        Models that are not there.
    """

    host: str
    complaint: str
    output: bool
    lacks: tuple[Expected, ...]


def look(expected: Sequence[Expected], probe: Path) -> Seen:
    """Look around on a worker.

    Parameters
    ----------
    expected : sequence of Expected
        What it must have.
    probe : pathlib.Path
        From `probed`.
    """
    lacks = tuple(one for one in expected if one.is_missing())
    complaint = ""
    try:
        for one in expected:
            if one not in lacks:
                one.load()
    except BundleError as error:
        complaint = str(error)
    return Seen(socket.gethostname(), complaint, probe.exists(), lacks)


def check_workers(client: Client, bundles: Sequence[Bundle], probe: Path) -> list[str]:
    """Wait for the first worker, and send models to those that lack them; return the hosts that do not see the output.

    Parameters
    ----------
    client : Client
        Of the cluster.
    bundles : sequence of Bundle
        The models of all slides.
    probe : pathlib.Path
        From `probed`.

    Raises
    ------
    InputError
        If no worker comes, or one has something otherwise than this process.
    """
    wait_s = _WAIT_S if client.cluster is None else _JOBS_WAIT_S
    try:
        client.wait_for_workers(1, timeout=wait_s)
    except TimeoutError:
        raise InputError(f"The cluster has no workers after {wait_s:.0f} s: start some.") from None
    expected = {Expected.of(bundle): bundle for bundle in bundles}
    found = _ask(client, list(expected), probe)
    if lacking := {one for seen in found for one in seen.lacks}:
        for one in lacking:
            client.register_plugin(SentBundle(one, expected[one]))
        found = _ask(client, list(expected), probe)
    return sorted({seen.host for seen in found if not seen.output})


def _ask(client: Client, expected: Sequence[Expected], probe: Path) -> list[Seen]:
    found = list(client.run(look, expected, probe).values())
    if complaints := sorted({seen.complaint for seen in found} - {""}):
        raise InputError(complaints[0])
    return found


class SentBundle(WorkerPlugin):  # type: ignore[misc]
    """A model in the hands of workers that do not see its folder, also of those that come later.

    Parameters
    ----------
    expected : Expected
        How the run knows it.
    bundle : Bundle
        What is sent.

    Raises
    ------
    InputError
        If it is too large.
    """

    def __init__(self, expected: Expected, bundle: Bundle) -> None:
        files = {SPEC_NAME: bundle.path / SPEC_NAME, ONNX_NAME: bundle.onnx_path}
        if bundle.spec.embedding:
            files[EMBEDDING_NAME] = bundle.embedding_path
        if sum(path.stat().st_size for path in files.values()) > _MOST_BYTES:
            raise InputError(
                f"Workers do not see the model {bundle.path}, which is too large to be sent to them: copy it to all "
                "hosts, under the same name."
            )
        self.name = f"cytolite-{expected.sha256[:16]}-{expected.spec_sha256[:16]}"
        self._expected, self._files = expected, {name: path.read_bytes() for name, path in files.items()}

    def setup(self, worker: Worker) -> None:
        """Write the files where the worker has its own."""
        folder = Path(worker.local_directory) / self.name
        with whole_folder(folder, replace=True) as part:
            for name, content in self._files.items():
                (part / name).write_bytes(content)
        self._expected.keep(folder)


@contextmanager
def probed(output: Path) -> Iterator[Path]:
    """Give a file of a name that nobody can have seen before: who sees it sees the output.

    Parameters
    ----------
    output : pathlib.Path
        Of the run, which is `alone` in it.
    """
    for leftover in output.glob(".seen-*"):  # of a client that was killed
        leftover.unlink(missing_ok=True)
    probe = output.resolve() / f".seen-{uuid4().hex}"
    probe.touch()
    try:
        yield probe
    finally:
        probe.unlink(missing_ok=True)


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Keep a second client off the output of a run on a cluster.

    Raises
    ------
    OutputError
        If there is one.
    """
    lock = FileLock(output / ".cluster.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"Another run on a cluster is writing {output}; wait until it is done, or name another."
        ) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
