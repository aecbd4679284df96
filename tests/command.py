"""The real `cytolite` command in a process of its own.

To import what the command needs takes longer than most of the commands that are tested. Where processes can be forked,
each is forked from one that has imported it, and differs from a started one in nothing else (`command_forks.py`).
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN = {"COLUMNS": "200", "NO_COLOR": "1"}
FORKS = Path(__file__).with_name("command_forks.py")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def sentence(self) -> str:
        """Return the error of a command that failed as it should: one sentence, no traceback, nothing on stdout."""
        assert self.code in (1, 2), self
        assert "Traceback" not in self.err, self.err
        assert self.out == "", self.out
        [line] = self.err.splitlines()
        assert line.startswith("error: ")
        assert line.endswith((".", "?"))
        return line


def cytolite(
    *arguments: object,
    cwd: Path | None = None,
    before: Callable[[], None] | None = None,
    without: Sequence[str] = (),
) -> Ran:
    """Run ``cytolite ARGUMENTS``.

    `before` is called in the new process, which is then a started one. The packages in `without` are as if they were
    not installed, where processes can be forked.
    """
    if before is None and hasattr(os, "fork"):
        return _forked(list(map(str, arguments)), cwd, without)
    done = subprocess.run(
        [sys.executable, "-m", "cytolite", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, preexec_fn=before, timeout=300, check=False,
        env=os.environ | SHOWN,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def _forked(arguments: list[str], cwd: Path | None, without: Sequence[str]) -> Ran:
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        order = {
            "arguments": arguments, "cwd": os.path.abspath(cwd or "."), "environment": os.environ | SHOWN,
            "out": str(out), "err": str(err), "without": list(without),
        }  # fmt: skip
        server = _server()
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        return Ran(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))


@functools.cache
def _server() -> subprocess.Popen[str]:
    """Return the process that forks; it ends when its input does."""
    server = subprocess.Popen(
        [sys.executable, FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | SHOWN
    )
    atexit.register(server.communicate)
    return server


def finished(output: Path) -> list[str]:
    """Names under which results may be found: all folders but the hidden ones of work that is not done."""
    return sorted(path.name for path in output.glob("*") if path.is_dir() and not path.name.startswith("."))
