"""What every process that works on a run must have: the cytolite and the model that it was started with."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cytolite.bundle import SPEC_NAME, Bundle, load_bundle
from cytolite.errors import BundleError
from cytolite.provenance import versions_here

# Where this process keeps bundles that were sent to it, by their hashes.
_sent: dict[tuple[str, str], Path] = {}


@dataclass(frozen=True)
class Expected:
    """A version of cytolite and a bundle, as a few words that travel.

    Attributes
    ----------
    version : str
        Of cytolite.
    bundle : pathlib.Path
        The bundle's folder, where the run was started.
    sha256, spec_sha256 : str
        Of its network, and of what decides beside it: with other thresholds a worker would find other cells.
    """

    version: str
    bundle: Path
    sha256: str
    spec_sha256: str

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Return what this process has."""
        return cls(versions_here()["cytolite"], bundle.path.resolve(), bundle.sha256, bundle.spec_sha256)

    def keep(self, folder: Path) -> None:
        """Use the copy of the bundle in `folder` from now on, in this process."""
        _sent[self.sha256, self.spec_sha256] = folder

    def is_missing(self) -> bool:
        """Say whether there is no bundle here, and nobody has sent it."""
        return (self.sha256, self.spec_sha256) not in _sent and not (self.bundle / SPEC_NAME).is_file()

    def load(self) -> Bundle:
        """Load the bundle.

        Raises
        ------
        BundleError
            If this process has another cytolite or another model.
        """
        host = socket.gethostname()
        if (here := versions_here()["cytolite"]) != self.version:
            raise BundleError(
                f"A worker on {host} has cytolite {here}, the run was started with {self.version}: install the same on "
                "all hosts."
            )
        try:
            bundle = load_bundle(str(_sent.get((self.sha256, self.spec_sha256), self.bundle)))
        except BundleError as error:
            raise BundleError(f"A worker on {host} cannot use the model: {error}") from None
        if (bundle.sha256, bundle.spec_sha256) != (self.sha256, self.spec_sha256):
            raise BundleError(
                f"A worker on {host} has another model in {self.bundle}: copy the same bundle to all hosts."
            )
        return bundle
