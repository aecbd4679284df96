"""The process around the interface: address, token, the file that tells other programs of both, and the end."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn

from cytolite.config import SegmentSettings
from cytolite.errors import InputError, OutputError, UsageError
from cytolite.home import home_folder
from cytolite.segmentation.run import load_model
from cytolite.serving.allowed import AllowedFolders
from cytolite.serving.api import MAX_BODY_BYTES, make_app
from cytolite.serving.jobs import JobQueue

SERVER_FILE = "server.json"


def serve(
    settings: SegmentSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    allow: Sequence[Path] = (),
    other_machines: bool = False,
    max_body_bytes: int = MAX_BODY_BYTES,
    say: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted.

    Parameters
    ----------
    settings : SegmentSettings
        Model and everything else that jobs do not say themselves.
    host, port : str, int
        Where to listen; port 0 is one that is free.
    allow : sequence of pathlib.Path
        Folders with slides; the user's own if there are none.
    other_machines : bool
        Whether `host` may be an address that other machines reach.
    max_body_bytes : int
        Largest request.
    say : callable
        Gets the lines for the user.

    Raises
    ------
    InputError
        If the address or a folder cannot be used, or a server runs already.
    BundleError
        If the model cannot be loaded.
    """
    if not _is_loopback(host):
        if not other_machines:
            raise UsageError(
                f"--host {host} can be reached by other machines; say --other-machines too if you want that."
            )
        say(f"warning: other machines can reach {host}, and nothing is encrypted: who sees the token can use it.")
    allowed = AllowedFolders.of(allow or [Path.home()])
    model = load_model(settings)
    _ = model.predictor  # a model that cannot be used is told now, and the first job need not wait
    home = home_folder()
    token = secrets.token_urlsafe(32)
    with _listen(host, port) as listener, JobQueue(model, settings, home / "jobs") as jobs:
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        app = make_app(jobs, token, allowed, max_body_bytes)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3, ws="none"))
        with _announced(home / SERVER_FILE, url, token), _ended_by_signals():
            say(f"serving {model.bundle.spec.name} at {url}; the token is in {home / SERVER_FILE}; stop with Ctrl-C")
            server.run(sockets=[listener])
        say("stopping; tiles that are done are kept")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(f"The server cannot listen at {host}, port {port} ({error}); choose another.") from None


@contextmanager
def _announced(path: Path, url: str, token: str) -> Iterator[None]:
    """Tell other programs of this user where the server is, until it ends; nobody else can read the file."""
    _refuse_second(path)
    content = json.dumps({"url": url, "token": token}) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(beside, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from None
    try:
        yield
    finally:
        with suppress(OSError):  # a file that is gone, or that another server wrote since, is left alone
            if path.read_text(encoding="utf-8") == content:
                path.unlink()


def _refuse_second(path: Path) -> None:
    """Refuse to take the place of a server that answers; the file of one that was killed is replaced."""
    try:
        url = str(json.loads(path.read_text(encoding="utf-8"))["url"])
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            pass
    except (OSError, ValueError, KeyError, TypeError):
        return
    raise InputError(f"A server runs already at {url}; stop it first, or set CYTOLITE_HOME to another folder.")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the block as if it were done: uvicorn hands them on when it has stopped."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, end) if main else None
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
