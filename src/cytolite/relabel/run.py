"""A relabelling run, from stores to the refined store with its audit; what is done already is used again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyarrow import compute

from cytolite.celltypes import LABEL_NAMES
from cytolite.config import RelabelSettings
from cytolite.datasets.store import Store, write_store
from cytolite.errors import InputError, UsageError, did_you_mean
from cytolite.files import write_text
from cytolite.provenance import options
from cytolite.relabel import audit
from cytolite.relabel.classifier import Classifier, build_network, find_pretrained
from cytolite.relabel.crossrelabel import Census, classify, refined
from cytolite.relabel.job import Display, Job
from cytolite.relabel.learning import learn
from cytolite.relabel.recipe import Split, read_recipe
from cytolite.relabel.report import ClassifierReport, counts_json, markdown
from cytolite.relabel.samples import wanted_patches
from cytolite.relabel.sheets import write_sheets

STORE_NAME, AUDIT_NAME, RECORD_NAME = "refined.h5", "audit.parquet", "run.json"
# What changes nothing in the result.
FREE_SETTINGS = ("overwrite", "quiet", "threads", "loaders", "device")


@dataclass(frozen=True)
class Relabelled:
    """What a run left behind.

    Attributes
    ----------
    folder : pathlib.Path
    cells : int
        Looked at.
    changed : int
        Whose label is another one now.
    skipped : bool
        The result was there already.
    notes : tuple of str
        What the user should know, such as a classifier that started from scratch.
    """

    folder: Path
    cells: int
    changed: int
    skipped: bool = False
    notes: tuple[str, ...] = ()


def relabel(paths: Sequence[Path], out: Path, settings: RelabelSettings, display: Display) -> Relabelled:
    """Train the recipe's classifiers, relabel, and write store, audit, sheets and report into `out`.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Stores that `prepare` wrote, of the seven types.
    out : pathlib.Path
        Folder of the result.
    settings : RelabelSettings
        With the recipe's file.
    display : Display
        Shows progress.

    Raises
    ------
    InputError
        If the recipe, a store or a setting cannot be used, or `out` holds another result.
    """
    recipe = read_recipe(settings.recipe)
    with ExitStack() as stack:
        job = Job(
            recipe, [stack.enter_context(Store(path)).of_the_seven("relabel") for path in paths], out, settings, display
        )
        check_sources(job)
        record = _record(job)
        earlier = _earlier(job, record)
        if earlier is not None:
            return earlier
        torch.set_num_threads(settings.threads)
        # An architecture or weights that cannot be used are found out before hours of cutting cells.
        build_network(settings, 2, find_pretrained(settings))
        out.mkdir(parents=True, exist_ok=True)
        learnt = [learn(job, classifier) for classifier in recipe.classifier]
        reports = [report for _, report in learnt]
        table = look(job, {report.recipe.name: trained for trained, report in learnt})
        # From here on files of an earlier result are replaced: without its record none of them counts.
        (out / RECORD_NAME).unlink(missing_ok=True)
        census = _write_refined(job, table) if recipe.split else Census()
        _write_report(job, census, table, reports)
        notes = [
            f"The classifier {report.recipe.name!r} started from scratch: no ImageNet weights were given or found."
            for report in reports
            if not report.record["weights"]
        ]
        changed = compute.sum(compute.not_equal(table["old_type"], table["new_type"])).as_py() or 0
        _write_json(out / RECORD_NAME, {**record, "cells": len(table), "changed": changed, "notes": notes})
    return Relabelled(out, len(table), changed, notes=tuple(notes))


def _write_refined(job: Job, table: pa.Table) -> Census:
    """Write the audit, the store and the sheets; return the counts."""
    census = Census()
    audit.write_audit(job.out / AUDIT_NAME, table)
    with job.ticking("refined store", sum(len(store) for store in job.stores)) as tick:
        patches = refined(job.stores, audit.changes(table), job.settings, census, tick)
        licences = {source: text for store in job.stores for source, text in store.licences.items()}
        write_store(job.out / STORE_NAME, patches, licences, command(job))
    write_sheets(job.out / "sheets", job.stores, table, job.settings)
    return census


def command(job: Job) -> str:
    """Return the command that makes the refined store."""
    stores = [store.path.name for store in job.stores]
    words = shlex.join(["cytolite", "relabel", *stores, "-o", job.out.name])
    return " ".join([words, *options(job.settings, without=FREE_SETTINGS)])


def check_sources(job: Job) -> None:
    """Check that the stores hold every dataset that the recipe names.

    Raises
    ------
    InputError
        Naming the dataset that is missing.
    """
    sources, recipe = job.sources, job.recipe
    for wanted in [*(d for c in recipe.classifier for d in c.trained_on), *(s.dataset for s in recipe.split)]:
        if wanted not in sources:
            raise UsageError(
                f"The recipe needs the dataset {wanted!r}, but the stores hold {', '.join(sources)}; give its store "
                f"too, or a recipe without it.{did_you_mean(wanted, sources)}"
            )


def look(job: Job, trained: dict[str, Classifier]) -> pa.Table:
    """Return the audit of all splits.

    Parameters
    ----------
    job : Job
        The run.
    trained : dict of str to Classifier
        By the names that the recipe gives them.

    Raises
    ------
    InputError
        If a dataset has no cell of the class that is to be split.
    """
    tables = [audit.SCHEMA.empty_table()]
    for split in job.recipe.split:
        n = len(wanted_patches(job.stores, [split.dataset]))
        with job.ticking(f"{split.label} of {split.dataset}", n) as tick:
            table = classify(job.stores, split, trained[split.by], job.settings, tick)
        if not len(table):
            raise InputError(
                f"The stores hold no {split.label} cells of {split.dataset}; take the split out of the recipe."
            )
        tables.append(table)
    return pa.concat_tables(tables)


def _record(job: Job) -> dict[str, Any]:
    return {
        "settings": job.settings.model_dump(mode="json", exclude={*FREE_SETTINGS, "recipe"}),
        "recipe": job.recipe.model_dump(mode="json"),
        "stores": [store.sha256 for store in job.stores],
    }


def _earlier(job: Job, record: dict[str, Any]) -> Relabelled | None:
    """Return the result that the folder holds, if it is this one and may stay.

    Raises
    ------
    InputError
        If it is another one.
    """
    path = job.out / RECORD_NAME
    if not path.exists() or job.settings.overwrite:
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    other = [key for key, value in record.items() if found.get(key) != value]
    if other:
        raise InputError(
            f"{job.out} holds a result of other {' and other '.join(other)}; choose another folder, or replace it with "
            "--overwrite (classifiers that still fit are used again)."
        )
    return Relabelled(job.out, found["cells"], found["changed"], skipped=True)


def _split_row(split: Split, table: pa.Table) -> dict[str, Any]:
    rows = table.filter((compute.field("source") == split.dataset) & (compute.field("old_type") == split.label))
    new = rows["new_type"].to_pylist()
    kinds = {name: new.count(name) for name in LABEL_NAMES.values() if name in new}
    return {"dataset": split.dataset, "label": split.label, "by": split.by, "cells": len(rows), "new_types": kinds}


def _write_report(job: Job, census: Census, table: pa.Table, reports: Sequence[ClassifierReport]) -> None:
    splits = [_split_row(split, table) for split in job.recipe.split]
    content = {
        "counts": counts_json(census),
        "splits": splits,
        "classifiers": {report.recipe.name: report.as_json() for report in reports},
    }
    _write_json(job.out / "report.json", content)
    write_text(job.out / "report.md", markdown(census, splits, reports))


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
