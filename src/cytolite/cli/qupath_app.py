"""The group `cytolite qupath`, which two modules of verbs register with."""

from __future__ import annotations

from cyclopts import App

from cytolite.cli.app import app

qupath = App(name="qupath", help="Work with QuPath: install the scripts, run on a project, make a project.")
app.command(qupath)
