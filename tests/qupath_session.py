"""QuPath's side of a session: Groovy of the version that QuPath has, stand-ins of its classes, and the extension's jar.

Groovy comes inside an npm package, gson and JTS inside the jar of a Python package, the stand-ins are compiled by
javac; where Java or npm is missing there is no session, and what needs one is skipped. With QuPath's own jars in
``CYTOLITE_QUPATH_CLASSPATH`` the stand-ins give way to the real classes of qupath-core, and a ``SessionImage`` of that
classpath opens an image with them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).parents[1]
SOURCES = Path(__file__).parent / "groovy"
GROOVY_PACKAGE = "npm-groovy-lint@16.2.0"
GROOVY_JARS = "node_modules/npm-groovy-lint/lib/java/groovy/lib"


class NoGroovyError(Exception):
    """Why there is no session on this machine."""


@dataclass(frozen=True)
class QuPath:
    """QuPath as the scripts see it; its first session keeps the classes that it loaded in a file for those after it."""

    classpath: str
    archive: Path | None = None

    def compile(self, sources: list[Path], out: Path) -> None:
        """Compile Groovy files; an error of the compiler is an AssertionError."""
        done = self._java("org.codehaus.groovy.tools.FileSystemCompiler", "-d", out, *sources)
        assert done.returncode == 0, done.stdout + done.stderr

    def play(self, plan: dict[str, Any], folder: Path, *options: str, timeout_s: float = 800) -> list[dict[str, Any]]:
        """Play a session; return what the user sees after each step. The log is in ``folder/log.txt``."""
        given, answer = folder / "plan.json", folder / "answer.json"
        given.write_text(json.dumps(plan), encoding="utf-8")
        answer.unlink(missing_ok=True)
        if self.archive is not None:
            kept = "SharedArchiveFile" if self.archive.is_file() else "ArchiveClassesAtExit"
            options = (f"-XX:{kept}={self.archive}", "-Xlog:disable", "-Xlog:all=error:stderr", *options)
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
    extension = extension_build()
    for program in ("java", "npm"):
        if shutil.which(program) is None:
            raise NoGroovyError(f"needs {program}, to run Groovy")
    real = os.environ.get("CYTOLITE_QUPATH_CLASSPATH", "")
    out = build / "classes"
    out.mkdir(parents=True)
    try:
        libraries = [*_groovy(ROOT / "build" / "groovy"), extension.libraries()]
        if not real:
            extension.compile_stand_ins(out, gui=False)
    except extension.MissingError as reason:
        raise NoGroovyError(str(reason)) from None
    behind = [extension.ASSET, *([real] if real else []), *libraries]
    names = ["Session.groovy"] if real else ["SessionImage.groovy", "Session.groovy"]
    QuPath(os.pathsep.join(map(str, [out, *behind]))).compile([SOURCES / name for name in names], out)
    # Classes are kept of jars alone.
    jar = Path(shutil.make_archive(str(out), "zip", out)).rename(build / "session.jar")
    return QuPath(os.pathsep.join(map(str, [jar, *behind])), build / "session.jsa")


def extension_build() -> ModuleType:
    """Return the module that builds the extension."""
    spec = importlib.util.spec_from_file_location("extension_build", ROOT / "qupath-extension" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def groovy_literal(text: str) -> str:
    """Return a Groovy string that means `text`, in ASCII."""
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return (
        "'"
        + "".join("\\" + chr(c) if chr(c) in "'\\" else chr(c) if 32 <= c < 127 else f"\\u{c:04x}" for c in codes)
        + "'"
    )


def _groovy(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # of tests that run side by side
        if not (folder / GROOVY_JARS).is_dir():
            done = subprocess.run(
                [shutil.which("npm"), "install", "--no-audit", "--no-fund", "--no-save", GROOVY_PACKAGE],
                cwd=folder, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                raise NoGroovyError(f"needs the npm package {GROOVY_PACKAGE}: {done.stderr.strip()[-200:]}")
    jars = folder / GROOVY_JARS
    return [*jars.glob("groovy-4*.jar"), *jars.glob("groovy-json-4*.jar")]
