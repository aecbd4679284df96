"""`cytolite models`."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from cytolite.cli.app import RESEARCH_USE, app


@app.command
def models(*, as_json: Annotated[bool, Parameter(name="--json", negative="", help="A JSON list.")] = False) -> int:
    """List the models that are inside the package, for `--model`; `cytolite inspect MODEL` says all of one."""
    from cytolite import pipeline

    found = pipeline.models()
    if as_json:
        print(json.dumps(found, indent=1))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "version", "parameters", "size", "licence of the weights", "what for", box=None)
    for m in found:
        size = f"{m['size_bytes'] / 2**20:.1f} MB"
        table.add_row(m["name"], m["version"], f"{m['parameters']:,}", size, m["licence"], m["purpose"])
    Console().print(table)
    print(RESEARCH_USE)
    return 0
