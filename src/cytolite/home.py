"""cytolite's own folder, which programs of this user find each other by: the server, the extension for QuPath."""

from __future__ import annotations

import os
from pathlib import Path


def home_folder() -> Path:
    """Return cytolite's own folder: that of the environment's CYTOLITE_HOME, else ``.cytolite`` in the user's."""
    return Path(os.environ.get("CYTOLITE_HOME") or Path.home() / ".cytolite")
