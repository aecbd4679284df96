"""Look through what is to be released, and use it as a stranger would: python .ci/check_dist.py DIST IMAGE."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_MB = 30  # four embedded models are 11 MB; the package index takes 100
MODELS = ("nuclei-light", "nuclei-light-int8", "nuclei-base-int8", "nuclei-ensemble-int8")
NEEDED = ["cytolite/__init__.py", "cytolite/assets/default.txt", "cytolite/assets/qupath/startup.groovy"]
NEEDED += [f"cytolite/assets/{model}/{name}" for model in MODELS for name in ("model.json", "model.onnx", "CARD.md")]
# Neither tests nor what they use, nor images, slides, results or stores of data.
UNWANTED_FOLDERS = {
    "tests",
    "benchmarks",
    "docs",
    "shared",
    "demo",
    "results",
    "runs",
    "docker",
    "__pycache__",
    ".ci",
    ".github",
}
UNWANTED_ENDINGS = {
    ".pyc",
    ".nbi",
    ".nbc",
    ".h5",
    ".npz",
    ".npy",
    ".parquet",
    ".svs",
    ".tif",
    ".tiff",
    ".png",
    ".jpg",
    ".ckpt",
    ".pt",
}


def main(dist: Path, image: Path) -> None:
    """Check the wheel and the sdist in a folder, each alone of its kind; exit with a sentence if one is not right."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    wheel, sdist = dist / f"cytolite-{version}-py3-none-any.whl", dist / f"cytolite-{version}.tar.gz"
    if found := {path.name for path in dist.iterdir()} ^ {wheel.name, sdist.name}:
        sys.exit(f"error: {dist} is to hold {wheel.name} and {sdist.name}; it differs in {', '.join(sorted(found))}.")
    with zipfile.ZipFile(wheel) as archive:
        check_names(wheel, archive.namelist(), NEEDED)
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
        check_names(sdist, names, [f"src/{name}" for name in NEEDED] + ["pyproject.toml", "README.md", "LICENSE"])
    for file in (wheel, sdist):
        use(file, image, version)


def check_names(file: Path, names: list[str], needed: list[str]) -> None:
    """Exit if an archive is too large, lacks something, or holds tests or data."""
    size = file.stat().st_size / 1e6
    if size > MOST_MB:
        sys.exit(f"error: {file.name} takes {size:.1f} MB; at most {MOST_MB} MB are allowed.")
    if missing := sorted(set(needed) - set(names)):
        sys.exit(f"error: {file.name} lacks {', '.join(missing)}.")
    unwanted = [n for n in names if UNWANTED_FOLDERS & set(Path(n).parts[:-1]) or Path(n).suffix in UNWANTED_ENDINGS]
    if unwanted:
        sys.exit(f"error: {file.name} holds what is not to be released: {', '.join(unwanted[:10])}.")
    print(f"{file.name}: {len(names)} files, {size:.1f} MB")


def use(file: Path, image: Path, version: str) -> None:
    """Install an archive into an empty environment and find nuclei with it, away from the source."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin")

        def run(program: str, *arguments: str) -> str:
            command = [str(programs / program), *arguments]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"error: {' '.join(command)} failed for {file.name}:\n{done.stdout}{done.stderr}")
            return done.stdout

        run("python", "-m", "pip", "install", "--quiet", str(file.resolve()))
        if run("cytolite", "--version").strip() != version:
            sys.exit(f"error: {file.name} installs another version than {version}.")
        if "torch" in {line.split("==")[0] for line in run("python", "-m", "pip", "freeze").splitlines()}:
            sys.exit(f"error: {file.name} brings torch, which the base install is to do without.")
        run("cytolite", "segment", str(image.resolve()), "-o", "out", "--mpp", "0.5", "--quiet")
        count = "import cytolite, sys; print(len(cytolite.read_cells(sys.argv[1])))"
        n = int(run("python", "-c", count, str(Path("out", image.stem, "cells.parquet"))))
        if n < 10:
            sys.exit(f"error: {file.name} finds only {n} nuclei in {image}.")
        print(f"{file.name}: installed alone, it finds {n} nuclei in {image}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
