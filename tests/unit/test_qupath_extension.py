"""The extension for QuPath: its jar is what the sources say and calls what every QuPath has; its own tests, windows."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cytolite
import paquo_stand_in
from class_file import ClassFile, read_class
from cytolite.spatial.files import write_density
from qupath_session import ROOT, extension_build

extension = extension_build()
VERSIONS = ("0.5.1", "0.6.0", "0.7.0")
JUNIT = Path("/usr/share/java/junit-platform-console-standalone.jar")


def table() -> dict[str, dict[str, str]]:
    lines = [x for x in (extension.HERE / "signatures.tsv").read_text().splitlines() if not x.startswith("#")]
    return {row["method"]: row for row in csv.DictReader(lines, delimiter="\t")}


@pytest.fixture(scope="module")
def jar() -> dict[str, bytes]:
    with zipfile.ZipFile(extension.ASSET) as file:
        return {name: file.read(name) for name in file.namelist()}


def classes(jar: dict[str, bytes]) -> list[ClassFile]:
    return [read_class(data) for name, data in jar.items() if name.endswith(".class")]


# ---- the jar --------------------------------------------------------------------------------------------------------


def test_the_jar_was_built_from_these_sources(jar):
    manifest = jar["META-INF/MANIFEST.MF"].decode().replace("\r\n ", "")
    assert f"Sources-SHA256: {extension.sources_sha256()}\r\n" in manifest, "run `make extension`"
    assert f"Implementation-Version: {cytolite.__version__}\r\n" in manifest


def test_the_jar_holds_our_classes_and_nothing_else(jar):
    others = {name for name in jar if not name.startswith("qupath/ext/cytolite/")}
    service = "META-INF/services/qupath.lib.gui.extensions.QuPathExtension"
    assert others == {"META-INF/MANIFEST.MF", "META-INF/LICENSE", service}
    assert f"{jar[service].decode().strip().replace('.', '/')}.class" in jar
    assert 100_000 < extension.ASSET.stat().st_size < 400_000
    for name, data in jar.items():
        assert not name.endswith(".class") or int.from_bytes(data[6:8]) == 61, name  # of Java 17


def test_the_jar_is_built_again_byte_for_byte(tmp_path):
    try:
        said = subprocess.run([extension.javac(), "-version"], capture_output=True, text=True, check=True)
        extension.javafx()
    except extension.MissingError as reason:
        pytest.skip(str(reason))
    if not said.stdout.startswith("javac 17."):
        pytest.skip(f"the jar is built by javac 17, this is {said.stdout.strip()}")
    extension.build(tmp_path / "again.jar")
    assert (tmp_path / "again.jar").read_bytes() == extension.ASSET.read_bytes()


def test_the_entry_of_the_catalogue_is_of_this_version():
    """As QuPath's model of a catalogue asks for it: names, addresses on GitHub, versions with a v."""
    [entry] = json.loads((extension.HERE / "catalog.json").read_text())["extensions"]
    assert {"name", "description", "author", "homepage", "releases"} == set(entry)
    latest = entry["releases"][0]
    version = cytolite.__version__
    assert latest["name"] == f"v{version}"
    assert latest["main_url"] == f"{entry['homepage']}/releases/download/v{version}/cytolite-qupath-{version}.jar"
    assert entry["homepage"].startswith("https://github.com/")
    assert re.fullmatch(r"v\d+\.\d+\.\d+", latest["version_range"]["min"])


# ---- signatures -----------------------------------------------------------------------------------------------------


def test_the_jar_calls_only_what_every_version_has(jar):
    known = table()
    called = {
        (kind, method)
        for each in classes(jar)
        for kind, method in each.calls
        if method.startswith("qupath.") and not method.startswith("qupath.ext.cytolite.")
    }
    assert len(called) > 50
    for kind, method in called:
        assert method in known, f"{method} is not in signatures.tsv"
        assert known[method]["kind"] == ("interface" if kind else "class"), method
        assert [known[method][version] for version in VERSIONS] == ["yes"] * 3, method


def test_stand_ins_have_the_signatures_of_the_table(tmp_path):
    """Everything that they share with QuPath by name is as it is there; helpers of their own are called otherwise."""
    try:
        extension.compile_stand_ins(tmp_path, gui=True)
    except extension.MissingError as reason:
        pytest.skip(str(reason))
    found = [read_class(path.read_bytes()) for path in tmp_path.rglob("*.class")]
    offered = {method: each for each in found for method in each.methods}
    for method, row in table().items():
        if not method.startswith(("qupath.lib.io", "qupath.lib.images.ImageData.getServerMetadata")) and (
            "ImageServer.getMetadata" not in method
        ):
            assert method in offered, f"no stand-in has {method}"
            assert offered[method].is_interface == (row["kind"] == "interface"), method
    names = {method.split("(")[0] for method in table()}
    for method in offered:
        assert method.split("(")[0] not in names or method in table(), f"{method} is not QuPath's"


def test_what_is_called_through_paquo_is_in_the_table():
    """Java's names have capitals inside, which ours never have."""
    source = (ROOT / "src" / "cytolite").rglob("*.py")
    known = {method.split("(")[0].split(".")[-1] for method, row in table().items() if row["0.5.1"] == "yes"}
    stand_ins = set(re.findall(r"def (\w+)\(", Path(paquo_stand_in.__file__).read_text()))
    called = set()
    for path in source:
        text = path.read_text(encoding="utf-8")
        if "paquo" not in text or path.parent.name == "cli":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.func.attr
                if re.fullmatch(r"[a-z]+[A-Z]\w*", name):
                    called.add(name)
    assert {"getServer", "getMetadata", "readObjects", "removeObjects"} <= called
    assert called <= known, called - known
    assert called <= stand_ins, called - stand_ins


# ---- the extension's own tests --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def java_tests(tmp_path_factory) -> str:
    """The class path of the compiled tests, stand-ins, extension and JavaFX."""
    out = tmp_path_factory.mktemp("java")
    try:
        extension.compile_stand_ins(out, gui=True)
        if not JUNIT.exists():
            raise extension.MissingError("needs JUnit 5 (Debian's junit5)")
        libraries = [extension.ASSET, extension.libraries(), *extension.javafx(), JUNIT]
        extension.compile_java(sorted((extension.HERE / "test").rglob("*.java")), out, [out, *libraries])
    except extension.MissingError as reason:
        pytest.skip(str(reason))
    return os.pathsep.join(map(str, [out, *libraries]))


def density_maps(result: Path) -> Path:
    """Write maps as `spatial` does: 500 x 300 pixels of 4 um, of a slide of 0.5 um/px, empty at the upper left."""
    pixels = np.mgrid[20:300, 50:500]
    window = SimpleNamespace(px_um=4.0, origin_um=(200.0, 80.0), mask=np.ones(pixels[0].shape, bool))
    maps = {name: (1000 * i + pixels[0] + 0.25).astype("f4") for i, name in enumerate(("neoplastic", "lymphocyté"))}
    sample = SimpleNamespace(window=window, mpp=0.5, about={"width_px": 4000, "height_px": 2400})
    (result / "spatial").mkdir(parents=True)
    analysis = SimpleNamespace(sample=sample, maps=maps, settings=SimpleNamespace(scale_um=100.0))
    write_density(result / "spatial" / "density.ome.tif", analysis)
    about = {"mpp": 0.5, "types": list(maps), "window": {"px_um": window.px_um}}
    (result / "spatial" / "measures.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    return result


def test_java(java_tests, tmp_path):
    environment = os.environ | {
        "CYTOLITE_HOME": str(tmp_path / "home"), "CYTOLITE_TEST_RESULT": str(density_maps(tmp_path / "result")),
    }  # fmt: skip
    done = subprocess.run(
        ["java", "-cp", java_tests, "org.junit.platform.console.ConsoleLauncher", "--scan-classpath",
         java_tests.split(os.pathsep)[0], "--disable-banner", "--details=tree", "--fail-if-no-tests"],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"(\d+) tests successful", done.stdout)[0]) >= 30


def test_windows_on_a_screen_of_their_own(java_tests, tmp_path):
    """Every window of the extension is opened on a virtual screen, and acts as a user expects; pictures are kept."""
    if shutil.which("Xvfb") is None or shutil.which("xvfb-run") is None:
        pytest.skip("needs Xvfb (Debian's xvfb and xauth)")
    pictures = Path(os.environ.get("CYTOLITE_PICTURES", tmp_path / "pictures"))
    pictures.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "CYTOLITE_HOME": str(tmp_path / "home"), "CYTOLITE_TEST_RESULT": str(density_maps(tmp_path / "result")),
        "NO_AT_BRIDGE": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["xvfb-run", "-a", "-s", "-screen 0 1400x1000x24", "java", "-Dprism.order=sw", "-cp", java_tests,
         "qupath.ext.cytolite.gui.Photographs", pictures],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.stem for path in pictures.glob("*.png")}
    assert names >= {"menu", "options", "progress", "question", "result", "error", "setup", "help"}
    assert names >= {"teach", "taught", "name", "density", "overlay"}
