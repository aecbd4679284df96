"""`cytolite doctor`."""

from __future__ import annotations

from cytolite.cli.app import FAILED, app

_WORDS = {"good": "ok", "note": "note", "bad": "FAILS"}


@app.command
def doctor() -> int:
    """Look at all that cytolite needs, and say how to mend what is wrong; exit code 1 if it cannot work."""
    from cytolite.doctor import examine

    states = []
    for finding in examine():
        states.append(finding.state)
        print(f"{_WORDS[finding.state]:5}  {finding.what}: {finding.found}", flush=True)
        if finding.mend:
            print(f"       -> {finding.mend}", flush=True)
    n = states.count("bad")
    print(f"\n{n} thing{'s' if n > 1 else ''} to mend." if n else "\nAll that is essential works.")
    return FAILED if n else 0
