"""`cytolite models`."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from cytolite.cli.app import RESEARCH_USE, app, print_table


@app.command
def models(*, as_json: Annotated[bool, Parameter(name="--json", negative="", help="A JSON list.")] = False) -> int:
    """List the models that are inside the package, for `--model`; `cytolite inspect MODEL` says all of one."""
    from cytolite import pipeline

    found = pipeline.models()
    if as_json:
        print(json.dumps(found, indent=1))
        return 0
    print_table(
        ("model", "version", "parameters", "size", "licence of the weights", "what for"),
        [
            (
                m["name"], m["version"], f"{m['parameters']:,}", f"{m['size_bytes'] / 2**20:.1f} MB", m["licence"],
                m["purpose"],
            )
            for m in found
        ],
    )  # fmt: skip
    print(RESEARCH_USE)
    return 0
