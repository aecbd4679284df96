"""Which data, augmentation, sampling and losses help: runs of one budget, cross-validated by image group, in one table.

    python benchmarks/ablation.py STORE... -o FOLDER [--only NAME...] [--folds K...] [--list] [--quick] [FLAG...]

STORE... are all stores of all runs; each run takes those whose data sets it names. All runs of a fold are scored on the
same held-back images: those of every store that have true outlines. A run of a fold lies in FOLDER/NAME/fold_K; started
again, finished ones are left alone and a stopped one goes on. FOLDER/table.md is made anew after each, from the folds
that all runs in it have. Flags that are not the script's own go to every run, e.g. --epochs 3 --steps-per-epoch 1000.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDS = 5
OLD = ("consep", "pannuke", "monuseg", "monusac", "puma")
INSTANCES = ("monuseg_more", "cpm17", "cpm15", "cpm15_test", "gbm40", "lgg_tcga", "monusac_macrophages")
POINTS = ("brca_m2c_points", "crchisto_points", "brecahad_boxes", "mitosis_amibr", "mitosis_atnorm_md")
ALL = (*OLD, *INSTANCES, "nuinsseg", *POINTS)
SMALL = ("--encoder", "efficientnet_lite0", "--decoder", "light")
LARGE = ("--encoder", "efficientnet_lite2", "--decoder", "wide")
STRONGER = ("--stain-jitter", "0.35", "--blur-share", "0.4", "--blur-px", "2")
SAMPLING = ("--source-power", "0.5", "--rare-power", "1.5")


@dataclass(frozen=True)
class Variant:
    """One run: its name, what it asks, the data sets it is trained on, and the flags it adds."""

    name: str
    question: str
    sources: tuple[str, ...]
    flags: tuple[str, ...] = LARGE


VARIANTS = (
    Variant("old", "the data of 0.2 and 0.3", OLD),
    Variant("instances", "+ instances without types", (*OLD, *INSTANCES)),
    Variant("nuinsseg", "+ NuInsSeg, its foreground near cuts", (*OLD, *INSTANCES, "nuinsseg")),
    Variant("points", "+ points, boxes and mitoses", ALL),
    Variant("stronger", "the same, stain and blur varied more", ALL, (*LARGE, *STRONGER)),
    Variant("sampling", "the same, sources by the root of their area, rare types first", ALL, (*LARGE, *SAMPLING)),
    Variant("adjusted", "the same, logits adjusted by the types' prior", ALL, (*LARGE, "--rare-loss", "adjusted")),
    Variant("focal", "the same, class-balanced focal loss of types", ALL, (*LARGE, "--rare-loss", "focal")),
    Variant("small-old", "the small network, the data of 0.2", OLD, SMALL),
    Variant("small-all", "the small network, all data", ALL, SMALL),
)
QUICK = (
    "--crop-px", "64", "--batch", "2", "--loaders", "0", "--threads", "1", "--warmup-steps", "1",
    "--epochs", "1", "--steps-per-epoch", "2", "--no-pretrained",
)  # fmt: skip


def sources_of(path: Path) -> set[str]:
    """Return the data sets in a store."""
    from cytolite.datasets.store import Store

    with Store(path) as store:
        return set(store.texts("source"))


def stores_for(variant: Variant, stores: list[Path]) -> list[Path]:
    """Return the stores of the variant's data sets; one that holds others too stops the script."""
    chosen = []
    for path in stores:
        found = sources_of(path)
        if found & set(variant.sources):
            if not found <= set(variant.sources):
                sys.exit(f"{path} holds {sorted(found - set(variant.sources))} too; {variant.name} is without them.")
            chosen.append(path)
    return chosen


def run(variant: Variant, fold: int, stores: list[Path], out: Path, shared: list[str]) -> None:
    """Train as the command line does."""
    command = [sys.executable, "-m", "cytolite", "train", *map(str, stores_for(variant, stores)), "-o", str(out)]
    subprocess.run([*command, "--fold", str(fold), *variant.flags, *shared], check=True)


def count(out: Path, stores: list[Path]) -> None:
    """Count what a run finds in all held-back images that have true outlines, and keep that as counts.parquet."""
    import torch

    from cytolite.celltypes import IGNORE
    from cytolite.evaluation.table import write_counts
    from cytolite.training.run import split, trained_network
    from cytolite.training.validate import score_network

    network, settings, _ = trained_network(out)
    torch.set_num_threads(settings.threads)
    judged = [p for p in split(stores, settings)[1] if ((p.instance_map > 0) & (p.judged_types() != IGNORE)).any()]
    write_counts(out / "counts.parquet", score_network(network, judged, settings.mpp))


def table(out: Path, folds: list[int]) -> str:
    """Return what has been run as a Markdown table, with paired differences from the first run."""
    from cytolite.evaluation.markdown import markdown_table
    from cytolite.evaluation.table import read_counts
    from cytolite.metrics.bootstrap import compare, headline
    from cytolite.metrics.counts import join
    from cytolite.metrics.scores import METRICS

    done = {v: [k for k in folds if (out / v.name / f"fold_{k}" / "counts.parquet").exists()] for v in VARIANTS}
    done = {v: ks for v, ks in done.items() if ks}
    if not done:
        return ""
    common = sorted(set.intersection(*map(set, done.values())))
    if not common:
        return "No fold has been run by all.\n"
    runs = {v: join([read_counts(out / v.name / f"fold_{k}" / "counts.parquet") for k in common]) for v in done}
    baseline = next(iter(runs))
    wanted = [m for m in METRICS if m.full_name in ("bpq_image", "f1_detection_pooled")]
    rows = []
    for v, counts in runs.items():
        told = ["-"] * len(wanted) if v is baseline else [d.signed for d in compare(counts, runs[baseline], wanted)]
        rows.append([v.name, v.question, *(str(s) for s in headline(counts).values()), *told])
    sources = [f"{name}, n = {s.n}" for name, s in headline(runs[baseline]).items()]
    minus = [f"`{m.full_name}` of all, minus {baseline.name}'s" for m in wanted]
    text = markdown_table(["run", "what", *sources, *minus], rows)
    return f"Folds {', '.join(map(str, common))} of {FOLDS}.\n\n{text}\n"


def report(out: Path, folds: list[int]) -> str:
    """Write the table of what has been run; return it."""
    text = table(out, folds)
    if text:
        (out / "table.md").write_text(text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--only", nargs="+", default=[v.name for v in VARIANTS], metavar="NAME",
                        choices=[v.name for v in VARIANTS])  # fmt: skip
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(FOLDS)), choices=range(FOLDS), metavar="K")
    parser.add_argument("--list", action="store_true", help="print the runs and stop")
    parser.add_argument("--quick", action="store_true", help="tiny runs, only to see that the script works")
    args, flags = parser.parse_known_args()
    if args.list:
        print(*(f"{v.name:12} {v.question}" for v in VARIANTS), sep="\n")
        return
    if args.output is None:
        parser.error("-o FOLDER is needed")
    # A whole fold before the next: a table of one fold compares all runs.
    for fold in args.folds if args.stores else ():
        for variant in VARIANTS:
            out = args.output / variant.name / f"fold_{fold}"
            if variant.name not in args.only or (out / "counts.parquet").exists():
                continue
            run(variant, fold, args.stores, out, [*flags, *(QUICK if args.quick else ())])
            count(out, args.stores)
            report(args.output, args.folds)
    print(report(args.output, args.folds))


if __name__ == "__main__":
    main()
