"""Which slides a run works on, and the folder that each one's results go to."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cytolite.errors import OutputError, UsageError
from cytolite.files import is_debris
from cytolite.interop.result_folder import RUN_FILE
from cytolite.names import folder_name, same_folder
from cytolite.provenance import fingerprint


def find_slides(given: Iterable[str | Path]) -> list[Path]:
    """Return the files named by paths and patterns, in order, each once; patterns match no hidden files and the like.

    A path that does not exist is returned as it is, if any other does: opening it says what is wrong, and the other
    slides go on.

    Raises
    ------
    UsageError
        If a pattern matches nothing, nothing was given, nothing of it is there, or all are folders.
    """
    found: dict[str, Path] = {}
    for name in map(str, given):
        refuse_address(name)
        if glob.has_magic(name) and not os.path.exists(name):
            matches = [match for match in sorted(glob.glob(name, recursive=True)) if not is_debris(Path(match))]
            if not matches:
                raise UsageError(f"No file matches {name!r}; check the pattern and the folder it starts from.")
        else:
            matches = [name]
        for match in matches:
            found.setdefault(_real(match), Path(match))
    if not found:
        raise UsageError("No slide was given; name at least one file.")
    slides = list(found.values())
    if all(slide.is_dir() for slide in slides):
        raise UsageError(
            f"{slides[0]} is a directory: name its slides, '{slides[0]}/*' (of a DICOM series, any one file)."
        )
    if not any(os.path.lexists(slide) for slide in slides):
        raise UsageError(f"{slides[0]} does not exist: check the path of the slide.")
    return slides


def refuse_address(name: str) -> None:
    """Refuse ``s3://bucket/slide.svs`` and the like, unless a file is called so.

    Raises
    ------
    UsageError
        If it is one.
    """
    if re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE) and not os.path.exists(name):
        raise UsageError(
            f"{name} is an address, and nothing is fetched from the network: download the slide, or mount its storage "
            "(mount-s3, rclone mount), and name the file."
        )


def _real(name: str) -> str:
    """Return the path with links followed; a name that no system can have stays, for opening it says what is wrong."""
    try:
        return os.path.realpath(name)
    except ValueError:
        return name


def prepare_output(output: Path) -> None:
    """Make the output folder and check that it can be written, before any work is done.

    Raises
    ------
    OutputError
        If it is a file, or cannot be made or written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except (FileExistsError, NotADirectoryError):
        raise OutputError(f"The output {output} is a file or lies below one; name a folder.") from None
    except OSError as error:
        raise OutputError(
            f"The output folder {output} cannot be written ({error.strerror}); name a folder that can be."
        ) from None


def result_folders(slides: Sequence[Path], output: Path) -> list[Path]:
    """Return the folder of each slide's results: ``output / name``, all different.

    The name is the file's stem; where two slides share a stem, the file's full name; where they share that,
    the name with its parent folder's, and at last with a hash of the path; all made safe by `folder_name`. A folder
    that already holds a result of the same slide is kept, and one that holds another slide's is passed over, so that
    running a batch again, or in parts, finds what is there.

    Parameters
    ----------
    slides : sequence of pathlib.Path
        In their order.
    output : pathlib.Path
        Folder of all results.
    """
    options = [_names(slide) for slide in slides]
    wanted = [
        Counter(same_folder(names[level]) for names in options) for level in range(len(options[0]) if options else 0)
    ]
    taken: set[str] = set()
    folders = []
    for slide, names in zip(slides, options, strict=True):
        taken_before = [name for name in names if is_result_of(output / name, slide)]
        unshared = [name for level, name in enumerate(names) if wanted[level][same_folder(name)] == 1]
        free = [name for name in unshared if not _is_other_result(output / name, slide)]
        name = next(name for name in [*taken_before, *free, names[-1]] if same_folder(name) not in taken)
        taken.add(same_folder(name))
        folders.append(output / name)
    return folders


def _names(slide: Path) -> tuple[str, ...]:
    whole = Path(os.path.abspath(slide))
    digest = hashlib.sha256(str(whole).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    # "..png" has the stem ".", of which nothing is left: the whole name then.
    stem = folder_name(slide.stem) or folder_name(slide.name)
    names = (slide.name, f"{whole.parent.name}-{slide.name}", f"{slide.name}-{digest}")
    return (stem, *map(folder_name, names))


def is_result(folder: Path) -> bool:
    """Say whether `folder` is a finished result: results get their final name only when whole."""
    return (folder / RUN_FILE).is_file()


def is_result_of(folder: Path, slide: Path) -> bool:
    """Say whether `folder` holds the finished result of this very file, wherever it lies now.

    Parameters
    ----------
    folder : pathlib.Path
        That may be there.
    slide : pathlib.Path
        The file.
    """
    recorded = read_record(folder).get("slide", {}) if is_result(folder) else {}
    return isinstance(recorded, dict) and recorded.items() >= fingerprint(slide).items()


def check_free(folder: Path) -> None:
    """Refuse a folder that holds something other than a result: it is the user's, and is never replaced.

    Raises
    ------
    OutputError
        If it is so.
    """
    if is_result(folder) or not os.path.lexists(folder):
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise OutputError(f"{folder} exists and is no result of cytolite; move it, or choose another output folder.")


def _is_other_result(folder: Path, slide: Path) -> bool:
    return is_result(folder) and not is_result_of(folder, slide)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the ``run.json`` of a result; empty if it is damaged."""
    try:
        record = json.loads((folder / RUN_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
