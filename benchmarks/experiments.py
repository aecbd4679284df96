"""Teacher, students and distillation on the same data and the same held-back images: the runs, and the table of them.

    python benchmarks/experiments.py STORE... -o FOLDER [--only NAME...] [--list] [--quick] [--epochs 8] [FLAG...]

Flags that are not the script's own go to every run, e.g. --crop-px 128 --batch 8 --precision bf16-mixed.

Each experiment is a run of `cytolite train` or `distill` in a folder of its own; started again, finished ones are left
alone and a stopped one goes on. The table is written to FOLDER/table.md after each. All runs see the same number of
crops of the same size from the same seed; the held-back images are those that the settings' default split holds back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Experiment:
    """One run: its name, what it asks, the flags it adds, and the run that teaches it."""

    name: str
    question: str
    flags: tuple[str, ...]
    teacher: str = ""


LIGHT = ("--encoder", "efficientnet_lite0")
EXPERIMENTS = (
    Experiment("student", "light student, trained on the truth alone", LIGHT),
    Experiment(
        "teacher", "ImageNet teacher: EfficientNet-Lite2 under the UNETR decoder, the paper's losses",
        ("--encoder", "efficientnet_lite2", "--decoder", "unetr", "--loss", "paper"),
    ),
    Experiment(
        "teacher-light-loss", "the same teacher with the light student's losses",
        ("--encoder", "efficientnet_lite2", "--decoder", "unetr"),
    ),
    Experiment("distilled", "the paper's T = 14, hard 0.3, soft 0.7", LIGHT, "teacher"),
    *(
        Experiment(f"distilled-T{t}", f"T = {t}, hard 0.3, soft 0.7", (*LIGHT, "--temperature", str(t)), "teacher")
        for t in (1, 2, 4)
    ),
    Experiment(
        "distilled-swapped", "the other reading: hard 0.7, soft 0.3",
        (*LIGHT, "--hard-weight", "0.7", "--soft-weight", "0.3"), "teacher",
    ),
    Experiment("distilled-all", "the teacher speaks where truth is silent", (*LIGHT, "--soft-on", "all"), "teacher"),
    Experiment(
        "teacher-scratch", "the teacher from random weights",
        ("--encoder", "efficientnet_lite2", "--decoder", "unetr", "--loss", "paper", "--no-pretrained"),
    ),
    Experiment(
        "resnet50", "the paper's baseline, from random weights (ImageNet's come from the hub)",
        ("--encoder", "resnet50", "--loss", "paper", "--no-pretrained"),
    ),
    Experiment(
        "paper-student", "24 M parameters: UNet++ on a mobile ViT, from random weights (wants a GPU)",
        ("--encoder", "mobilevitv2_150", "--no-pretrained"), "teacher",
    ),
)  # fmt: skip
DEFAULT = ("student", "teacher", "distilled", "distilled-T1", "distilled-T2", "distilled-T4", "distilled-swapped")
QUICK = (
    "--crop-px",
    "64",
    "--batch",
    "2",
    "--loaders",
    "0",
    "--threads",
    "1",
    "--warmup-steps",
    "1",
    "--no-pretrained",
)


def run(experiment: Experiment, stores: list[Path], out: Path, shared: list[str]) -> None:
    """Train as the command line does."""
    verb = ["distill", str(out / experiment.teacher)] if experiment.teacher else ["train"]
    command = [sys.executable, "-m", "cytolite", *verb, *map(str, stores), "-o", str(out / experiment.name)]
    subprocess.run([*command, *experiment.flags, *shared], check=True)


def result(out: Path) -> dict[str, object]:
    """Score a run's averaged network on its held-back images."""
    import torch

    from cytolite.evaluation.bootstrap import headline
    from cytolite.training.run import split, trained_network
    from cytolite.training.validate import score_network

    network, settings, stores = trained_network(out)
    torch.set_num_threads(settings.threads)
    found = headline(score_network(network, split(stores, settings)[1], settings.mpp))
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "scores": {name: f"{interval}, n = {interval.n}" for name, interval in found.items()},
    }


def table(out: Path) -> str:
    """Return what has been run as a Markdown table."""
    rows = []
    for experiment in EXPERIMENTS:
        path = out / experiment.name / "result.json"
        if path.exists():
            rows.append((experiment, json.loads(path.read_text())))
    names = sorted({name for _, found in rows for name in found["scores"]})
    lines = [["run", "what", "parameters", *(f"`{name}`" for name in names)], ["---"] * (3 + len(names))]
    for experiment, found in rows:
        scores = [found["scores"].get(name, "-") for name in names]
        lines.append([experiment.name, experiment.question, f"{found['parameters']:,}", *scores])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps-per-epoch", type=int, default=250)
    parser.add_argument("--only", nargs="+", default=list(DEFAULT), choices=[e.name for e in EXPERIMENTS])
    parser.add_argument("--list", action="store_true", help="print the experiments and stop")
    parser.add_argument("--quick", action="store_true", help="tiny runs, only to see that the script works")
    args, flags = parser.parse_known_args()
    if args.list:
        print(*(f"{e.name:20} {e.question}" for e in EXPERIMENTS), sep="\n")
        return
    if not args.stores or args.output is None:
        parser.error("stores and -o FOLDER are needed")
    shared = ["--epochs", str(args.epochs), "--steps-per-epoch", str(args.steps_per_epoch), *flags]
    shared += QUICK if args.quick else ()
    for experiment in EXPERIMENTS:
        done = args.output / experiment.name / "result.json"
        if experiment.name not in args.only or done.exists():
            continue
        run(experiment, args.stores, args.output, shared)
        done.write_text(json.dumps(result(args.output / experiment.name), indent=1) + "\n")
        (args.output / "table.md").write_text(table(args.output))
    print(table(args.output))


if __name__ == "__main__":
    main()
