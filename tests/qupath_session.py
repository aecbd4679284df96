"""QuPath's side of a session: Groovy of the version that QuPath has, and stand-ins of the classes that scripts call.

Groovy comes inside an npm package, gson and JTS inside the jar of a Python package; where Java or npm is missing there
is no session, and what needs one is skipped. With QuPath's own jars in ``CYTOLITE_QUPATH_CLASSPATH`` the stand-ins give
way to the real classes of qupath-core.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCES = Path(__file__).parent / "groovy"
GROOVY_PACKAGE = "npm-groovy-lint@16.2.0"
GROOVY_JARS = "node_modules/npm-groovy-lint/lib/java/groovy/lib"


class NoGroovyError(Exception):
    """Why there is no session on this machine."""


@dataclass(frozen=True)
class QuPath:
    """QuPath as the scripts see it."""

    classpath: str

    def compile(self, sources: list[Path], out: Path) -> None:
        """Compile Groovy files; an error of the compiler is an AssertionError."""
        done = self._java("org.codehaus.groovy.tools.FileSystemCompiler", "-d", out, *sources)
        assert done.returncode == 0, done.stdout + done.stderr

    def play(self, plan: dict[str, Any], folder: Path, *options: str, timeout_s: float = 800) -> list[dict[str, Any]]:
        """Play a session; return what the user sees after each step. The log is in ``folder/log.txt``."""
        given, answer = folder / "plan.json", folder / "answer.json"
        given.write_text(json.dumps(plan), encoding="utf-8")
        answer.unlink(missing_ok=True)
        done = self._java("Session", given, answer, options=options, timeout_s=timeout_s)
        (folder / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        assert answer.is_file(), done.stdout + done.stderr
        return json.loads(answer.read_text(encoding="utf-8"))

    def _java(
        self, main: str, *arguments: object, options: tuple[str, ...] = (), timeout_s: float = 800
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["java", "-Dfile.encoding=UTF-8", *options, "-cp", self.classpath, main, *map(str, arguments)],
            capture_output=True, text=True, encoding="utf-8", timeout=timeout_s, check=False,
        )  # fmt: skip


def qupath(build: Path) -> QuPath:
    """Return QuPath's stand-ins, compiled into `build`, with Groovy fetched the first time.

    Raises
    ------
    NoGroovyError
        If Java, npm or the Python package is missing, or npm cannot fetch the package.
    """
    libraries = os.pathsep.join(map(str, groovy_jars()))
    real = os.environ.get("CYTOLITE_QUPATH_CLASSPATH", "")
    out = build / "classes"
    out.mkdir(parents=True)
    parts = [str(out), libraries] if not real else [str(out), real, libraries]
    tools = QuPath(os.pathsep.join(parts))
    folders = ["gui"] if real else ["core", "gui"]
    tools.compile([path for name in folders for path in sorted((SOURCES / name).glob("*.groovy"))], out)
    tools.compile([SOURCES / "Session.groovy"], out)
    return tools


def groovy_jars() -> list[Path]:
    """Return the jars of Groovy, gson and JTS, fetched the first time.

    Raises
    ------
    NoGroovyError
        As `qupath`.
    """
    for program in ("java", "npm"):
        if shutil.which(program) is None:
            raise NoGroovyError(f"needs {program}, to run Groovy")
    return [*_groovy(ROOT / "build" / "groovy"), _tabula()]


def _groovy(folder: Path) -> list[Path]:
    if not (folder / GROOVY_JARS).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [shutil.which("npm"), "install", "--no-audit", "--no-fund", "--no-save", GROOVY_PACKAGE],
            cwd=folder, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise NoGroovyError(f"needs the npm package {GROOVY_PACKAGE}: {done.stderr.strip()[-200:]}")
    jars = folder / GROOVY_JARS
    return [*jars.glob("groovy-4*.jar"), *jars.glob("groovy-json-4*.jar")]


def _tabula() -> Path:
    found = importlib.util.find_spec("tabula")
    jars = list(Path(found.origin).parent.glob("tabula-*.jar")) if found and found.origin else []
    if not jars:
        raise NoGroovyError("needs the Python package tabula-py, whose jar has gson and JTS")
    return jars[0]
