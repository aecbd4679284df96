"""Teachers, students and distillation on the same data and the same held-back images: the runs, and the table of them.

    python benchmarks/experiments.py STORE... -o FOLDER [--only NAME...] [--list] [--quick] [--draw IMAGE] [FLAG...]

Each experiment is a run of `cytolite train` or `distill` in a folder of its own; started again, finished ones are left
alone and a stopped one goes on. FOLDER/table.md and FOLDER/curves.png are made anew after each. Flags that are not the
script's own go to every run, e.g. --epochs 2 --crop-px 128 --precision bf16-mixed: give all that shall be compared the
same. The held-back images are those that the settings' default split holds back. --draw IMAGE writes what each run
finds in an image of 0.5 um/px, side by side, to FOLDER/pictures.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BASELINE = "student"
DRAWN_MPP = 0.5


@dataclass(frozen=True)
class Experiment:
    """One run: its name, what it asks, the flags it adds, and the bundle or the run that teaches it."""

    name: str
    question: str
    flags: tuple[str, ...] = ()
    teacher: str = ""


LIGHT = ("--encoder", "efficientnet_lite0")
UNETR = ("--encoder", "efficientnet_lite2", "--decoder", "unetr")
# The embedded model, asked in eight orientations at two scales: the strongest teacher that can be had without a GPU.
ENSEMBLE = (*LIGHT, "--teacher-tta", "8", "--teacher-scales", "0.8", "--teacher-scales", "1.0")
PAPER_STUDENT = ("--encoder", "mobilevitv2_150", "--no-pretrained")
EXPERIMENTS = (
    Experiment(BASELINE, "light student, trained on the truth alone", LIGHT),
    Experiment("distilled", "the paper's T = 14, hard 0.3, soft 0.7", ENSEMBLE, "nuclei-light"),
    *(
        Experiment(
            f"distilled-T{t}", f"T = {t}, hard 0.3, soft 0.7", (*ENSEMBLE, "--temperature", str(t)), "nuclei-light"
        )
        for t in (1, 2, 4)
    ),
    Experiment(
        "distilled-swapped", "the other reading of the paper: hard 0.7, soft 0.3",
        (*ENSEMBLE, "--hard-weight", "0.7", "--soft-weight", "0.3"), "nuclei-light",
    ),
    Experiment(
        "distilled-all", "T = 1, and the teacher speaks where truth is silent",
        (*ENSEMBLE, "--temperature", "1", "--soft-on", "all"), "nuclei-light",
    ),
    Experiment("paper-student", "24 M parameters: UNet++ on a mobile ViT, from random weights", PAPER_STUDENT),
    Experiment(
        "paper-student-distilled", "the same, distilled, T = 1",
        (*ENSEMBLE, *PAPER_STUDENT, "--temperature", "1"), "nuclei-light",
    ),
    Experiment("resnet50", "the paper's baseline and losses, from random weights (ImageNet's come from the hub)",
               ("--encoder", "resnet50", "--loss", "paper", "--no-pretrained")),
    Experiment("teacher", "ImageNet teacher: EfficientNet-Lite2 under the UNETR decoder, the paper's losses",
               (*UNETR, "--loss", "paper")),
    Experiment("teacher-scratch", "the same from random weights", (*UNETR, "--loss", "paper", "--no-pretrained")),
    Experiment("teacher-light-loss", "the ImageNet teacher with the light student's losses", UNETR),
    Experiment("taught-by-teacher", "light student of the ImageNet teacher, T = 1", (*LIGHT, "--temperature", "1"),
               "teacher"),
)  # fmt: skip
QUICK = (
    "--crop-px", "64", "--batch", "2", "--loaders", "0", "--threads", "1", "--warmup-steps", "1",
    "--epochs", "1", "--steps-per-epoch", "2",
)  # fmt: skip


def run(experiment: Experiment, stores: list[Path], out: Path, shared: list[str]) -> None:
    """Train as the command line does."""
    taught_by_run = experiment.teacher in {e.name for e in EXPERIMENTS}
    teacher = str(out / experiment.teacher) if taught_by_run else experiment.teacher
    verb = ["distill", teacher, "--cache", str(out / "soft_targets")] if teacher else ["train"]
    command = [sys.executable, "-m", "cytolite", *verb, *map(str, stores), "-o", str(out / experiment.name)]
    subprocess.run([*command, *experiment.flags, *shared], check=True)


def count(out: Path) -> None:
    """Count what a run's averaged network finds in its held-back images, and keep that as counts.parquet."""
    import torch

    from cytolite.evaluation.table import write_counts
    from cytolite.training.run import split, trained_network
    from cytolite.training.validate import score_network

    network, settings, stores = trained_network(out)
    torch.set_num_threads(settings.threads)
    counts = score_network(network, split(stores, settings)[1], settings.mpp)
    about = {"parameters": sum(p.numel() for p in network.parameters())}
    (out / "network.json").write_text(json.dumps(about) + "\n")
    write_counts(out / "counts.parquet", counts)


def finished(out: Path) -> list[Experiment]:
    """Return the experiments whose results lie in `out`."""
    return [e for e in EXPERIMENTS if (out / e.name / "counts.parquet").exists()]


def table(out: Path) -> str:
    """Return what has been run as a Markdown table, with paired differences from the first run."""
    from cytolite.evaluation.markdown import markdown_table
    from cytolite.evaluation.table import read_counts
    from cytolite.metrics.bootstrap import compare, headline
    from cytolite.metrics.scores import METRICS

    runs = {e: read_counts(out / e.name / "counts.parquet") for e in finished(out)}
    if not runs:
        return ""
    baseline = next(iter(runs))
    [quality] = [m for m in METRICS if m.full_name == "bpq_image"]
    rows = []
    for e, counts in runs.items():
        size = json.loads((out / e.name / "network.json").read_text())["parameters"]
        [difference] = compare(counts, runs[baseline], [quality])
        told = "-" if e is baseline else difference.signed
        rows.append([e.name, e.question, f"{size / 1e6:.2f}", *(str(s) for s in headline(counts).values()), told])
    sources = [f"{name}, n = {s.n}" for name, s in headline(runs[baseline]).items()]
    header = ["run", "what", "parameters, M", *sources, f"`bpq_image` of all, minus {baseline.name}'s"]
    return markdown_table(header, rows) + "\n"


def report(out: Path) -> str:
    """Write table and curves of what has been run; return the table."""
    text = table(out)
    if text:
        (out / "table.md").write_text(text)
        draw_curves(out)
    return text


def read_log(run_folder: Path) -> list[dict[str, str]]:
    """Return the rows that a run logged, over all its starts."""
    rows = []
    for path in sorted(run_folder.glob("csv/*/metrics.csv")):
        with path.open() as file:
            rows += list(csv.DictReader(file))
    return rows


def draw_curves(out: Path) -> None:
    """Draw the flow loss against the truth, and the score on held-back images, of every run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, column, label in zip(
        figure.subplots(1, 2), ("train/flow", "val/score"),
        ("flow loss on training crops", "mean over sources on held-back images"), strict=True,
    ):  # fmt: skip
        for e in finished(out):
            points = [(int(row["step"]) + 1, float(row[column])) for row in read_log(out / e.name) if row.get(column)]
            axes.plot(*zip(*points, strict=True), marker="o" if column == "val/score" else "", ms=3, lw=1, label=e.name)
        axes.set(xlabel="step", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(out / "curves.png", dpi=130)


def draw_image(out: Path, path: Path) -> None:
    """Draw what each run finds in an image, side by side."""
    import cv2
    import numpy as np

    from cytolite.drawing.training_picture import outlined
    from cytolite.patches import Patch
    from cytolite.training.run import trained_network
    from cytolite.training.validate import predict_patch

    image = np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
    nothing = np.zeros(image.shape[:2], np.int32)
    patch = Patch(path.name, image, nothing, nothing.astype(np.uint8), DRAWN_MPP, "-", path.name)
    fine = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    found = {}
    for e in finished(out):
        if e.teacher == "nuclei-light":
            found.setdefault("teacher: nuclei-light, 8 orientations, 2 scales", ask_ensemble(patch))
        network, settings, _ = trained_network(out / e.name)
        nuclei = predict_patch(network, patch, settings.mpp)
        found[e.name] = nuclei.instance_map, nuclei.types
    panels = [titled(fine, path.name)]
    for name, (instances, types) in found.items():
        drawn = outlined(fine, instances.repeat(2, 0).repeat(2, 1), np.concatenate([[0], types]))
        panels.append(titled(drawn, f"{name}: {len(types)} nuclei"))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % 2)
    rows = [np.concatenate(pair, 1) for pair in zip(panels[::2], panels[1::2], strict=True)]
    cv2.imwrite(str(out / "pictures.png"), np.concatenate(rows)[..., ::-1])


def ask_ensemble(patch):  # type: ignore[no-untyped-def]
    """Return the nuclei that the students' teacher sees in a patch, and their types."""
    import numpy as np
    import torch

    from cytolite.decoding.instances import DEFAULTS, find_nuclei, vote_types
    from cytolite.pipeline import load_teacher
    from cytolite.training.teacher import ensemble

    asked = ensemble([load_teacher("nuclei-light", 2)], scales=(0.8, 1.0), tta=8)
    image = torch.from_numpy(np.ascontiguousarray(patch.image.transpose(2, 0, 1)))[None]
    flows, logits = (maps[0].numpy() for maps in asked(image, patch.mpp, patch.image.shape[:2]))
    instances = find_nuclei(np.ascontiguousarray(flows), logits, DEFAULTS, patch.mpp)
    return instances, vote_types(instances, logits, int(instances.max(initial=0)))[0]


def titled(image, title: str):  # type: ignore[no-untyped-def]
    """Return an image under a line of text."""
    import cv2
    import numpy as np

    strip = np.full((28, image.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, title, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, image])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--only", nargs="+", default=[BASELINE, "distilled", "distilled-T1"], metavar="NAME",
                        choices=[e.name for e in EXPERIMENTS])  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the experiments and stop")
    parser.add_argument("--draw", type=Path, metavar="IMAGE", help="draw what the finished runs find in an image")
    parser.add_argument("--quick", action="store_true", help="tiny runs, only to see that the script works")
    args, flags = parser.parse_known_args()
    if args.list:
        print(*(f"{e.name:24} {e.question}" for e in EXPERIMENTS), sep="\n")
        return
    if args.output is None:
        parser.error("-o FOLDER is needed")
    for e in EXPERIMENTS if args.stores else ():
        if e.name not in args.only or e in finished(args.output):
            continue
        run(e, args.stores, args.output, [*flags, *(QUICK if args.quick else ())])
        count(args.output / e.name)
        report(args.output)
    if args.draw:
        draw_image(args.output, args.draw)
    print(report(args.output))


if __name__ == "__main__":
    main()
