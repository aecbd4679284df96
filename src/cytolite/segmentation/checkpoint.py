"""Work folder of one slide: the tiles done so far, so that a run that was stopped can go on."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout

from cytolite.cells import CellTable
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.errors import OutputError, SlideError
from cytolite.files import write_text
from cytolite.interop.result_folder import RUN_FILE
from cytolite.segmentation.stitch import TileCells
from cytolite.slides.tiles import Rectangle, Tile

# Counted up when what a part holds, or how it is computed, changes: older parts are then not used.
PARTS_FORMAT = 1
# Of workers at one tile, before its slide is given up.
MOST_DEATHS = 3


class WorkFolder:
    """``.<name>.partial`` beside the final folder of a slide's results.

    ``key.json`` says what the tiles were computed from, ``tiles/`` holds one file per tile, ``result/`` is the result
    being written. Every file appears under its name only when whole, so a kill at any moment costs the tiles in work.

    Parameters
    ----------
    final : pathlib.Path
        Folder that the result shall have.
    type_set : TypeSet
        Types of the nuclei; another model's tiles are never read, so parts do not say it.
    """

    def __init__(self, final: Path, type_set: TypeSet = DEFAULT) -> None:
        self.final, self._type_set = final, type_set
        self.path = final.with_name(f".{final.name}.partial")
        self._old = final.with_name(f".{final.name}.old")
        self._lock = final.with_name(f".{final.name}.lock")
        self._tiles = self.path / "tiles"
        self.result = self.path / "result"
        self._attempts = self.path / "attempts"
        self._damaged = self.path / "damaged"

    @contextmanager
    def alone(self, wait_s: float = 0.0) -> Iterator[None]:
        """Keep other runs out of this slide's results while the block runs; the system frees those of a killed run.

        On a cluster another host may hear late that one has died: `wait_s` is how long to wait then.

        Raises
        ------
        OutputError
            If another run works on it, or the folder cannot be written.
        """
        lock = FileLock(self._lock, timeout=wait_s)
        with writing(self.final):
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                raise OutputError(
                    f"Another run of cytolite is writing {self.final}; wait until it is done, or name another output."
                ) from None
        try:
            yield
        finally:
            self._lock.unlink(missing_ok=True)
            lock.release()

    def open(self, key: dict[str, Any]) -> bool:
        """Make the folder ready; returns whether tiles of an earlier run with another key were thrown away.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        text = json.dumps({"parts": PARTS_FORMAT, **key}, indent=1, sort_keys=True)
        with writing(self.final):
            self._restore()
            self._refuse_foreign()
            known = self._known_key()
            stale = known != text and self._tiles.is_dir() and any(self._tiles.iterdir())
            if known != text:
                shutil.rmtree(self.path, ignore_errors=True)
            self._tiles.mkdir(parents=True, exist_ok=True)
            if known != text:
                write_text(self.path / "key.json", text)
        return stale

    def has(self, tile: Tile) -> bool:
        """Whether the tile is done."""
        return zipfile.is_zipfile(self._part(tile))

    def save(self, part: TileCells) -> None:
        """Write a tile's nuclei: beside first, then under its name.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        self.put(part.tile, encoded(part))

    def put(self, tile: Tile, content: bytes) -> None:
        """Write a part file that was made elsewhere; raises what `save` raises.

        Parameters
        ----------
        tile : Tile
            What was worked on.
        content : bytes
            From `encoded`.
        """
        with writing(self.final), _replaced(self._part(tile)) as beside:
            beside.write_bytes(content)

    def load(self, tile: Tile) -> TileCells:
        """Read a tile's nuclei back.

        Raises
        ------
        OutputError
            If the file is damaged.
        """
        try:
            with np.load(self._part(tile)) as part:
                columns = {name: part[name] for name in part.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise OutputError(
                f"The kept work {self._part(tile)} cannot be read ({error}); delete {self.path} and run again."
            ) from error
        cells = CellTable(
            vertices=columns["vertices"].astype(np.float64),
            offsets=np.concatenate([[0], np.cumsum(columns["lengths"], dtype=np.int64)]),
            centroids=columns["centroids"],
            types=columns["types"],
            type_probs=columns["type_probs"],
            area_um2=columns["area_um2"],
            regions=np.full(len(columns["types"]), -1, np.int32),
            features=dict(zip(FEATURE_NAMES, columns["features"], strict=True)),
            type_set=self._type_set,
            embeddings=columns.get("embeddings"),
        )
        return TileCells(tile, cells, columns["owned"])

    @contextmanager
    def attempt(self, tile: Tile) -> Iterator[None]:
        """Work on a tile, in a process that may die of it.

        Raises
        ------
        SlideError
            If three have.
        """
        name = f"{tile.index:07d}"
        with writing(self.final):
            self._attempts.mkdir(exist_ok=True)
            if len(list(self._attempts.glob(f"{name}.*"))) >= MOST_DEATHS:
                raise SlideError(
                    f"{MOST_DEATHS} workers died while they worked on tile {tile.index} of {self.final.name}: look "
                    "into their log; too little memory is the usual reason (--tile makes tiles smaller)."
                )
            mark = self._attempts / f"{name}.{uuid4().hex}"
            mark.touch()
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def forget_attempts(self) -> None:
        """Let a new run try what workers died of before."""
        shutil.rmtree(self._attempts, ignore_errors=True)

    def add_damaged(self, places: Sequence[Rectangle]) -> None:
        """Keep what could not be read, so that a run that goes on with these tiles knows it too.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with writing(self.final):
            if new := sorted(set(places) - set(self.damaged())):
                # A file for each finding, named by what it says: nobody, on this host or another, has to wait.
                text = json.dumps(new)
                self._damaged.mkdir(exist_ok=True)
                with _replaced(self._damaged / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json") as beside:
                    beside.write_text(text, encoding="utf-8")

    def damaged(self) -> list[Rectangle]:
        """Return what could not be read: x, y, width and height of each place, level-0 px."""
        found = [json.loads(file.read_text(encoding="utf-8")) for file in self._damaged.glob("*.json")]
        return sorted({(x, y, w, h) for places in found for x, y, w, h in places})

    @contextmanager
    def result_folder(self) -> Iterator[Path]:
        """Give an empty folder to write the result into; on success it becomes the final one in one rename.

        An older result is moved aside before and removed after, so that there is always a whole one or none.

        Raises
        ------
        OutputError
            If something cannot be written; nothing is left under the final name then.
        """
        with writing(self.final):
            shutil.rmtree(self.result, ignore_errors=True)
            self.result.mkdir()
            yield self.result
            if self.final.exists():
                os.replace(self.final, self._old)
            os.replace(self.result, self.final)
            shutil.rmtree(self._old, ignore_errors=True)
            shutil.rmtree(self.path, ignore_errors=True)

    def _part(self, tile: Tile) -> Path:
        return self._tiles / f"{tile.index:07d}.npz"

    def _known_key(self) -> str | None:
        try:
            return (self.path / "key.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _refuse_foreign(self) -> None:
        """A folder that is no result of ours is never replaced."""
        if self.final.exists() and not (self.final / RUN_FILE).is_file():
            raise OutputError(
                f"{self.final} is there already and is no result of cytolite; move it away or name another output."
            )

    def _restore(self) -> None:
        """Bring back the older result if a run was killed between the two renames, or drop what it left behind."""
        if self._old.exists():
            if self.final.exists():
                shutil.rmtree(self._old, ignore_errors=True)
            else:
                os.replace(self._old, self.final)


def encoded(part: TileCells) -> bytes:
    """Return the content of a tile's part file."""
    cells, file = part.cells, io.BytesIO()
    vectors: dict[str, Any] = {} if cells.embeddings is None else {"embeddings": cells.embeddings}
    np.savez(
        file,
        owned=part.owned,
        vertices=cells.vertices.astype(np.float32),  # exact: halves of px, far below 2**23
        lengths=np.diff(cells.offsets).astype(np.int32),
        centroids=cells.centroids,
        types=cells.types,
        type_probs=cells.type_probs,
        area_um2=cells.area_um2,
        features=np.array([cells.features[name] for name in FEATURE_NAMES], np.float32),
        **vectors,
    )
    return file.getvalue()


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Give a path to write to that becomes `path`; no process on any host has the same.

    As `cytolite.files.whole_path`, but it does not look for leftovers among what may be 100,000 files.
    """
    beside = path.with_name(f"{path.stem}.{uuid4().hex}.new")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def writing(final: Path) -> Iterator[None]:
    """Turn the system's errors into a sentence about `final`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(
                f"The disk is full: {final} cannot be written; free some space and run the same command again, "
                "the tiles done so far are kept."
            ) from error
        raise OutputError(
            f"{final} cannot be written ({error.strerror or error}); check the folder and its permissions."
        ) from error
