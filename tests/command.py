"""The real `cytolite` command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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


def cytolite(*arguments: object, cwd: Path | None = None, before: Callable[[], None] | None = None) -> Ran:
    """Run ``cytolite ARGUMENTS``; `before` is called in the new process, before the command starts."""
    done = subprocess.run(
        [sys.executable, "-m", "cytolite", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, preexec_fn=before, timeout=300, check=False,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def finished(output: Path) -> list[str]:
    """Names under which results may be found: all folders but the hidden ones of work that is not done."""
    return sorted(path.name for path in output.glob("*") if path.is_dir() and not path.name.startswith("."))
