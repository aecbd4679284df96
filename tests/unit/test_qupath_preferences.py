"""QuPath's preferences as Java keeps them: on Linux written by Java itself, elsewhere as Java's source says."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cytolite.qupath.preferences import read_preferences, started_versions, user_folders


def write_by_java(home: Path, version: str, values: dict[str, str]) -> None:
    if shutil.which("java") is None:
        pytest.skip("needs java, which writes the preferences")
    source = home / "Write.java"
    puts = "".join(f'node.put("{key}", "{value}");' for key, value in values.items())
    source.write_text(
        "import java.util.prefs.*; public class Write { public static void main(String[] a) throws Exception {"
        f'Preferences node = Preferences.userRoot().node("io.github.qupath/{version}"); {puts} node.flush(); }} }}'
    )
    done = subprocess.run(
        ["java", f"-Djava.util.prefs.userRoot={home}", str(source)], capture_output=True, text=True, check=False
    )
    if "compiler" in done.stderr.lower():
        pytest.skip("needs a Java with a compiler, which writes the preferences")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="Java keeps them in files on Linux alone")
def test_what_java_writes_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "dossier é" / "qupath"
    folder.mkdir(parents=True)
    (tmp_path / "QuPath" / "v0.6").mkdir(parents=True)
    (tmp_path / "QuPath" / "v0.7").mkdir(parents=True)
    write_by_java(tmp_path, "0.6", {"userPath": str(folder), "startupScriptPath": "/a b/é.groovy", "other": "<&>"})
    write_by_java(tmp_path, "0.4", {"userPath": str(folder)})
    found = read_preferences(tmp_path, "linux")
    assert found["0.6"] == {"userPath": str(folder), "startupScriptPath": "/a b/é.groovy", "other": "<&>"}
    assert list(started_versions(tmp_path, "linux")) == ["0.6"]
    assert user_folders(tmp_path, "linux") == {"0.6": folder}  # ~/QuPath/v0.7 was made by hand


def test_without_preferences_there_is_no_folder(tmp_path: Path) -> None:
    for version in ("v0.5", "v0.6", "v1.0"):
        (tmp_path / "QuPath" / version).mkdir(parents=True)
    for platform in ("linux", "darwin"):
        assert started_versions(tmp_path, platform) == {}
        assert user_folders(tmp_path, platform) == {}


def test_damaged_preferences_count_as_none(tmp_path: Path) -> None:
    node = tmp_path / ".java" / ".userPrefs" / "_not base 64" / "0.6"
    node.mkdir(parents=True)
    (node / "prefs.xml").write_text("<map><entry")
    assert read_preferences(tmp_path, "linux") == {}
    plist = tmp_path / "Library" / "Preferences" / "com.apple.java.util.prefs.plist"
    plist.parent.mkdir(parents=True)
    plist.write_bytes(b"bplist00 but not really")
    assert read_preferences(tmp_path, "darwin") == {}


def test_macos(tmp_path: Path) -> None:
    plist = tmp_path / "Library" / "Preferences" / "com.apple.java.util.prefs.plist"
    plist.parent.mkdir(parents=True)
    node = {"0.6/": {"userPath": str(tmp_path), "startupScriptPath": "/me/start.groovy"}, "some": "value"}
    plist.write_bytes(plistlib.dumps({"/": {"io.github.qupath/": node, "other/": {}}}, fmt=plistlib.FMT_BINARY))
    assert user_folders(tmp_path, "darwin") == {"0.6": tmp_path}


class Registry:
    """As much of winreg as is used, over a dictionary."""

    HKEY_CURRENT_USER = "HKCU"

    def __init__(self, keys: dict[str, dict[str, str]]) -> None:
        self.keys = keys

    def OpenKey(self, parent: object, name: str) -> object:  # noqa: N802
        path = name if parent == "HKCU" else f"{parent.path}\\{name}"  # type: ignore[attr-defined]
        if path not in self.keys:
            raise FileNotFoundError(2, "The system cannot find the file specified")
        key = SimpleNamespace(path=path)
        return type("Key", (), {"__enter__": lambda _: key, "__exit__": lambda *_: None})()

    def _below(self, key: SimpleNamespace) -> list[str]:
        return [path.removeprefix(key.path + "\\") for path in self.keys if path.startswith(key.path + "\\")]

    def QueryInfoKey(self, key: SimpleNamespace) -> tuple[int, int, int]:  # noqa: N802
        return len(self._below(key)), len(self.keys[key.path]), 0

    def EnumKey(self, key: SimpleNamespace, i: int) -> str:  # noqa: N802
        return self._below(key)[i]

    def EnumValue(self, key: SimpleNamespace, i: int) -> tuple[str, str, int]:  # noqa: N802
        return (*list(self.keys[key.path].items())[i], 1)


def test_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = r"Software\JavaSoft\Prefs\io.github.qupath"
    values = {"user/Path": r"/C:////Users////J/u00fcrg".replace("/C:", "C:"), "startup/Script/Path": r"C:\start.groovy"}
    monkeypatch.setitem(sys.modules, "winreg", Registry({root: {}, rf"{root}\0.6": values}))
    found = read_preferences(tmp_path, "win32")
    assert found == {"0.6": {"userPath": r"C:\\Users\\Jürg", "startupScriptPath": "C:/start.groovy"}}
    monkeypatch.setitem(sys.modules, "winreg", Registry({}))
    assert read_preferences(tmp_path, "win32") == {}
