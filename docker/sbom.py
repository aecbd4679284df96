"""Print what an image holds as CycloneDX 1.5: packages of Python and of Debian, with versions and licences."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.metadata import Distribution, distributions
from urllib.parse import quote


def main() -> None:
    components = [*map(_python, distributions()), *_debian()]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": sorted(components, key=lambda each: each["purl"]),
    }
    print(json.dumps(document, indent=1))


def _python(package: Distribution) -> dict[str, object]:
    about = package.metadata
    component = _component(about["Name"], about["Version"], "pypi")
    text = about.get("License-Expression") or about.get("License") or ""
    licence = text.strip().splitlines()[0] if text.strip() else ""
    return component | ({"licenses": [{"license": {"name": licence}}]} if licence else {})


def _debian() -> list[dict[str, object]]:
    if shutil.which("dpkg-query") is None:
        return []
    listing = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\\n"]
    lines = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    return [_component(*line.split(), "deb") for line in lines]


def _component(name: str, version: str, kind: str) -> dict[str, object]:
    folder = "debian/" if kind == "deb" else ""
    purl = f"pkg:{kind}/{folder}{quote(name.lower())}@{quote(version, safe='')}"
    return {"type": "library", "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main()
