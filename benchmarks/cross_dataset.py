"""A table of how classifiers fall on other datasets: one row per classifier and dataset of finished `relabel` runs.

    python benchmarks/cross_dataset.py RUN...

Reads each run's report.json and classifier.json. Rows say which settings differ from the first run's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def shown(measure: dict[str, Any]) -> str:
    """Return a share with its interval over patients or images, or over cells where there is none."""
    low, high = measure["over_groups"] if measure["over_groups"][0] is not None else measure["over_cells"]
    return f"{measure['value']:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    first: dict[str, Any] = {}
    print("| trained on | scored on | settings | balanced at home | balanced away | falls by | ECE away |")
    print("|---|---|---|---|---|---|---|")
    for run in parser.parse_args().runs:
        settings = json.loads((run / "run.json").read_text())["settings"]
        first = first or settings
        changed = ", ".join(f"{k} {v}" for k, v in settings.items() if v != first[k] and k != "seed") or "-"
        for report in json.loads((run / "report.json").read_text())["classifiers"].values():
            for place, away in report["elsewhere"].items():
                row = [
                    ", ".join(report["trained_on"]), place, f"{changed}; seed {settings['seed']}",
                    shown(report["test"]["balanced"]), shown(away["balanced"]), shown(report["fall"][place]),
                    f"{away['ece']:.3f}",
                ]  # fmt: skip
                print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
