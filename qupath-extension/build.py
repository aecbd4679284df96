"""Build the extension for QuPath: ``python qupath-extension/build.py``, or ``make extension``.

Needs a JDK 17 or newer, JavaFX (Debian's libopenjfx-java) and tabula-py, whose jar has gson, JTS and slf4j.
QuPath's own classes are stand-ins (``stand-ins``): their signatures are those of QuPath 0.5.1, 0.6.0 and 0.7.0, which
``signatures.tsv`` lists; none of them gets into the jar. The same sources give the same jar, byte for byte, with the
same major version of the JDK.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
ASSET = ROOT / "src" / "cytolite" / "assets" / "qupath" / "cytolite-qupath.jar"
RELEASE = "17"  # of Java: what QuPath 0.5 runs on
JAVAFX = ("javafx-base.jar", "javafx-graphics.jar", "javafx-controls.jar")
JAVAFX_FOLDERS = (Path("/usr/share/java"), Path("/usr/share/openjfx/lib"))


class MissingError(Exception):
    """What this machine lacks."""


def javac() -> str:
    """Return the compiler."""
    found = shutil.which("javac")
    if found is None:
        raise MissingError("needs javac, of a JDK 17 or newer")
    return found


def libraries() -> Path:
    """Return a jar that has gson, JTS and slf4j, as QuPath has them."""
    found = importlib.util.find_spec("tabula")
    jars = list(Path(found.origin).parent.glob("tabula-*.jar")) if found and found.origin else []
    if not jars:
        raise MissingError("needs the Python package tabula-py, whose jar has gson and JTS")
    return jars[0]


def javafx() -> list[Path]:
    """Return the jars of JavaFX."""
    for folder in JAVAFX_FOLDERS:
        if all((folder / name).exists() for name in JAVAFX):
            return [folder / name for name in JAVAFX]
    raise MissingError("needs JavaFX (Debian's libopenjfx-java)")


def version() -> str:
    """Return the version of the package, which is the extension's too."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def sources_sha256() -> str:
    """Return what tells whether a jar was built from the sources as they are."""
    digest = hashlib.sha256()
    for path in [*_java(HERE / "src"), *_files(HERE / "resources"), ROOT / "LICENSE"]:
        digest.update(f"{path.relative_to(ROOT).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def compile_java(sources: list[Path], out: Path, classpath: list[Path]) -> None:
    """Compile with all warnings on; a warning is an error."""
    out.mkdir(parents=True, exist_ok=True)
    flags = ["--release", RELEASE, "-encoding", "UTF-8", "-g:source,lines", "-Xlint:all,-serial,-try,-path,-options"]
    done = subprocess.run(
        [javac(), *flags, "-Werror", "-proc:none", "-d", out, "-cp", os.pathsep.join(map(str, classpath)), *sources],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)


def compile_stand_ins(out: Path, gui: bool) -> None:
    """Compile QuPath's stand-ins; those of its window need JavaFX."""
    names = ["core", "gui"] if gui else ["core"]
    sources = [path for name in names for path in _java(HERE / "stand-ins" / name)]
    compile_java(sources, out, [libraries(), *(javafx() if gui else [])])


def build(target: Path) -> None:
    """Write the jar."""
    with tempfile.TemporaryDirectory() as folder:
        stand_ins, classes = Path(folder) / "stand-ins", Path(folder) / "classes"
        compile_stand_ins(stand_ins, gui=True)
        compile_java(_java(HERE / "src"), classes, [libraries(), *javafx(), stand_ins])
        content = {path.relative_to(classes).as_posix(): path.read_bytes() for path in _files(classes)}
    content |= {
        path.relative_to(HERE / "resources").as_posix(): path.read_bytes() for path in _files(HERE / "resources")
    }
    content["META-INF/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    content["qupath/ext/cytolite/version.txt"] = f"{version()}\n".encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as jar:  # stored: how zlib packs changes with its version
        for name, data in {"META-INF/MANIFEST.MF": _manifest(), **dict(sorted(content.items()))}.items():
            jar.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


def _manifest() -> bytes:
    lines = (
        "Manifest-Version: 1.0", "Implementation-Title: cytolite", f"Implementation-Version: {version()}",
        f"Sources-SHA256: {sources_sha256()}",
    )  # fmt: skip
    assert all(len(line) <= 70 for line in lines[:3])
    # A line of a manifest has at most 72 bytes; what is longer goes on after a line break and a space.
    return "".join("\r\n ".join([line[:70], *([line[70:]] if line[70:] else [])]) + "\r\n" for line in lines).encode()


def _java(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.java"))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    try:
        build(ASSET)
    except MissingError as reason:
        sys.exit(f"error: the extension {reason}.")
    released = ROOT / "dist" / f"cytolite-qupath-{version()}.jar"
    released.parent.mkdir(exist_ok=True)
    shutil.copyfile(ASSET, released)
    print(f"{ASSET.relative_to(ROOT)}, {released.relative_to(ROOT)}: {ASSET.stat().st_size / 1000:.0f} kB")
