"""`cytolite doctor`."""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import cytolite
from cytolite.cli.app import FAILED, app

if TYPE_CHECKING:
    from cytolite.doctor import Finding

_WORDS = {"good": "ok", "note": "note", "bad": "FAILS"}


@app.command
def doctor(
    *, json: Annotated[bool, Parameter(help="One object on stdout, for programs such as QuPath's extension.")] = False
) -> int:
    """Look at all that cytolite needs, and say how to mend what is wrong; exit code 1 if it cannot work."""
    from cytolite.doctor import examine

    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not json:
            _print(finding)
    n = sum(finding.state == "bad" for finding in findings)
    if json:
        print(json_format.dumps(_as_object(findings)))
    else:
        print(f"\n{n} thing{'s' if n > 1 else ''} to mend." if n else "\nAll that is essential works.")
    return FAILED if n else 0


def _print(finding: Finding) -> None:
    print(f"{_WORDS[finding.state]:5}  {finding.what}: {finding.found}", flush=True)
    if finding.mend:
        print(f"       -> {finding.mend}", flush=True)


def _as_object(findings: list[Finding]) -> dict[str, object]:
    """Return what QuPath's extension reads: what works, which models there are, and what its menu may offer."""
    from cytolite.bundle import embedded_names

    return {
        "version": cytolite.__version__,
        "models": embedded_names(),
        "findings": [vars(finding) for finding in findings],
        "verbs": [verb for verb in app if not verb.startswith("-")],
    }
