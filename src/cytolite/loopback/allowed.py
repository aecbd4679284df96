"""Which paths a client of the server may name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cytolite.errors import InputError, UsageError


class NotAllowedError(InputError):
    """A path outside of the folders that the server was started for."""


@dataclass(frozen=True)
class AllowedFolders:
    """Folders, with links in them followed, below which files may be read and results written."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, given: Iterable[Path]) -> AllowedFolders:
        """Return the folders named; all must be there.

        Raises
        ------
        InputError
            If one is no folder.
        """
        folders = []
        for folder in given:
            if not folder.is_dir():
                raise UsageError(f"--allow {folder}: there is no such folder; name folders that hold slides.")
            folders.append(folder.resolve())
        return cls(tuple(folders))

    def resolve(self, name: str) -> Path:
        """Return where an absolute path leads with all its links followed, if that is allowed.

        Whether the file exists is not looked at, so that nothing is said about what lies outside.

        Raises
        ------
        InputError
            If it is not absolute, or no path at all.
        NotAllowedError
            If it leads out of the folders.
        """
        try:
            path = Path(name)
            if not path.is_absolute():
                raise InputError(f"The path {name[:80]!r} is not absolute; give it from the root of the disk.")
            path = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a circle of links, a NUL byte
            raise InputError(f"{name[:80]!r} is no path of a file ({error}).") from None
        if not any(path.is_relative_to(folder) for folder in self.folders):
            raise NotAllowedError(
                f"{name[:80]} lies outside of the folders that this server may use "
                f"({', '.join(map(str, self.folders))}); start it with --allow and the folder of your slides."
            )
        return path
