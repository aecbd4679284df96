"""A whole evaluation: truth and predictions in, a folder with counts, scores, charts and a page out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cytolite.bundle import SPEC_NAME, Bundle, embedded_names, load_bundle
from cytolite.celltypes import DEFAULT, SEVEN, LabelSet, read_mapping
from cytolite.config import EvaluateSettings
from cytolite.drawing.comparison import side_by_side
from cytolite.errors import OutputError, UsageError, did_you_mean, how_to_install
from cytolite.evaluation import html
from cytolite.evaluation import markdown as page
from cytolite.evaluation.doubts import Doubt, InstanceCheck, type_doubts
from cytolite.evaluation.images import (
    Case,
    Labelled,
    Predict,
    add_columns,
    count_cases,
    find_cases,
    keep_held_back,
    look_at,
    model_predictions,
    read_predictions,
)
from cytolite.evaluation.report import Bootstrap, Section, as_json, sections
from cytolite.evaluation.table import write_counts
from cytolite.files import whole_folder
from cytolite.interop.parquet import read_types
from cytolite.interop.result_folder import CELLS_FILE, results_in
from cytolite.metrics.bootstrap import score
from cytolite.metrics.classes import Classes, own_classes, read_classes
from cytolite.metrics.counts import Counts, join
from cytolite.metrics.protocols import Protocol, in_fold, protocol, score_splits
from cytolite.metrics.scores import quality
from cytolite.metrics.truth import Prediction
from cytolite.progress import Display, silent
from cytolite.provenance import option, options

REPORT_NAME, HTML_NAME, COUNTS_NAME = "report.json", "report.html", "counts.parquet"
# Charts are drawn for the groups of a column up to this many; the tables hold all.
MOST_CHARTED = 6
# Images with at least so many nuclei are shown as best, median and worst, where there are any.
MANY_NUCLEI = 10
NO_CHARTS = f"Charts need the extra `report`, {how_to_install('report')}."


@dataclass(frozen=True)
class Contest:
    """What is compared with what.

    Attributes
    ----------
    truths : sequence of pathlib.Path
        Stores and label folders.
    predicted : sequence of pathlib.Path
        Predictions; several where a protocol has several splits.
    model : str, optional
        Bundle that predicts, in place of `predicted`.
    baseline : str, optional
        Predictions or a bundle to compare with.
    """

    truths: Sequence[Path]
    predicted: Sequence[Path] = ()
    model: str | None = None
    baseline: str | None = None

    def command(self, settings: EvaluateSettings) -> str:
        """Return the command that asks for this, for a shell, without where results go."""
        given = {"truth": tuple(self.truths), "predicted": tuple(self.predicted)}
        given |= {name: value for name in ("model", "baseline") if (value := getattr(self, name))}
        words = [text for name, value in given.items() for text in option(f"--{name}", value, whole=True)]
        words += options(settings, without=("quiet", "overwrite", "threads"), whole=True)
        return " ".join(["cytolite evaluate", *words])


def evaluate(
    contest: Contest,
    out: Path,
    settings: EvaluateSettings,
    display: Display = silent,
    warn: Callable[[str], None] = lambda message: None,
) -> list[Section]:
    """Score predictions and write the report; see `cytolite.pipeline.evaluate`.

    Parameters
    ----------
    contest : Contest
        Truth, predictions and baseline.
    out : pathlib.Path
        Folder of the report.
    settings : EvaluateSettings
        Everything else.
    display : Display
        Shows the progress.
    warn : callable
        Called with a sentence for each doubt about truth or predictions.
    """
    _check_free(out, settings.overwrite)
    classes = read_classes(settings.types) if settings.types else own_classes(_labels(contest.truths))
    cases = find_cases(contest.truths, settings.mpp)
    if settings.images:
        cases = add_columns(cases, settings.images)
    if settings.held_back is not None:
        cases = keep_held_back(cases, settings.held_back, settings.seed, settings.duplicates)
    _check_columns(cases, [*settings.by, settings.group])
    bootstrap = Bootstrap(settings.group, settings.resamples, settings.seed)
    plan = protocol(settings.protocol) if settings.protocol else None
    about = _about(contest, settings)
    classes = _coloured(classes, contest, _mapping(settings))
    checks = (InstanceCheck("truth"), InstanceCheck("prediction"))
    baseline = None
    if plan is None:
        [predict] = _predictors(contest, [cases], classes, settings)
        counts = _count("predicted", cases, predict, classes, display, checks=checks)
        if contest.baseline is not None:
            other = _open(contest.baseline, cases, classes, settings)
            baseline = _count("baseline", cases, other, classes, display)
        found = sections(counts, settings.by or _default_columns(counts), bootstrap, baseline)
    else:
        if contest.baseline is not None:
            raise UsageError("A protocol and a baseline do not go together; score the two one after the other.")
        found, predict = _splits(plan, contest, cases, classes, settings, display=display, checks=checks)
        counts = found[0].counts
        about["protocol"] = f"{plan.name}: {plan.note}"
    doubts = [*(doubt for check in checks for doubt in check.doubts()), *type_doubts(counts)]
    for doubt in doubts:
        warn(doubt.message)
    pictures = _pictures(counts, cases, predict, classes) if settings.pictures else []
    with whole_folder(out, replace=True) as part:
        write_counts(part / COUNTS_NAME, counts)
        if baseline is not None:
            write_counts(part / f"baseline_{COUNTS_NAME}", baseline)
        _write(part, found, bootstrap, about, doubts=doubts, pictures=pictures)
    return found


def _labels(truths: Sequence[Path]) -> LabelSet:
    """Return what type maps of the truth hold: what its stores say, else labels of the seven types."""
    from cytolite.datasets.store import Stores

    stores = [path for path in truths if path.is_file()]
    if not stores:
        return SEVEN
    with Stores(stores) as opened:
        labels = opened.labels
    if len(stores) < len(truths) and labels != SEVEN:
        raise UsageError("Stores of types of their own and label folders cannot be scored together; do so one by one.")
    return labels


def _coloured(classes: Classes, contest: Contest, mapping: Mapping[str, str] | None) -> Classes:
    """Return the classes with the colours of what predicts, where the truth gives none."""
    if contest.model is not None:
        found = [load_bundle(contest.model).spec.type_set]
    else:
        given = [
            [path] if path.is_file() else [p / CELLS_FILE for p in results_in(path, CELLS_FILE)[:1]]
            for path in contest.predicted
        ]
        found = [read_types(path) for some in given for path in some]
    for type_set in found:
        if type_set != DEFAULT:
            classes = classes.coloured(type_set.merged(mapping or {})[0])
    return classes


def write_page(path: Path, contest: Contest, settings: EvaluateSettings, found: Sequence[Section], out: Path) -> None:
    """Write the scores as a Markdown page that says how to make it again.

    Parameters
    ----------
    path : pathlib.Path
        Markdown file to write.
    contest : Contest
        What was scored.
    settings : EvaluateSettings
        How it was.
    found : sequence of Section
        From `evaluate`.
    out : pathlib.Path
        Folder of the report, for the command that the page tells.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    about = _about(contest, settings)
    subject = about.get("model") or about.get("predicted", "")
    text = page.page(
        f"Scores of {subject.split(' (')[0]}",
        " ".join([contest.command(settings), *option("-o", out, whole=True), *option("--page", path, whole=True)]),
        [f"{name.capitalize()}: {value}." for name, value in about.items() if name in ("model", "chosen")],
        found,
        Bootstrap(settings.group, settings.resamples, settings.seed),
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def _check_columns(cases: Sequence[Case], names: Sequence[str]) -> None:
    """Before anything is predicted, which may take long."""
    for name in names:
        if name not in cases[0].columns:
            known = cases[0].columns
            raise UsageError(
                f"The table of images has no column {name!r}; it has {', '.join(known)}.{did_you_mean(name, known)}"
            )


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not (out / REPORT_NAME).is_file():
        raise OutputError(f"{out} is there and is no report; choose another name for it.")
    if not overwrite:
        raise OutputError(f"{out} is there already; --overwrite replaces it.")


def _default_columns(counts: Counts) -> tuple[str, ...]:
    return ("source",) if len(set(counts.images["source"].tolist())) > 1 else ()


def _count(
    title: str,
    cases: Sequence[Case],
    predict: Predict,
    classes: Classes,
    display: Display,
    *,
    checks: tuple[InstanceCheck, InstanceCheck] | None = None,
) -> Counts:
    def look(case: Case, labelled: Labelled, predicted: Prediction) -> None:
        if checks is not None:
            checks[0].look(case.name, labelled.instance_map)
            checks[1].look(case.name, predicted.instance_map)

    with display(title, "images") as update:
        return count_cases(cases, predict, classes, update, look)


def _predictors(
    contest: Contest, cases: Sequence[Sequence[Case]], classes: Classes, settings: EvaluateSettings
) -> list[Predict]:
    """Return what predicts each of several sets of cases."""
    if (contest.model is None) == (not contest.predicted):
        raise UsageError("Give either --predicted, what was predicted, or --model, a bundle that predicts.")
    if contest.model is not None:
        return [_open_model(load_bundle(contest.model), classes, settings)] * len(cases)
    if len(contest.predicted) != len(cases):
        raise UsageError(
            f"{len(contest.predicted)} predictions were given and {len(cases)} are needed: one, or one for each split "
            "of a protocol, in its order."
        )
    whole = settings.held_back is None and settings.protocol is None
    pairs, mapping = zip(contest.predicted, cases, strict=True), _mapping(settings)
    return [read_predictions(path, some, classes, whole, mapping=mapping) for path, some in pairs]


def _open(given: str, cases: Sequence[Case], classes: Classes, settings: EvaluateSettings) -> Predict:
    """Open what may be a bundle or predictions."""
    if given in embedded_names() or (Path(given) / SPEC_NAME).is_file():
        return _open_model(load_bundle(given), classes, settings)
    return read_predictions(Path(given), cases, classes, settings.held_back is None, mapping=_mapping(settings))


def _open_model(bundle: Bundle, classes: Classes, settings: EvaluateSettings) -> Predict:
    return model_predictions(bundle, classes, settings.threads, settings.mpp, settings.tta, mapping=_mapping(settings))


def _mapping(settings: EvaluateSettings) -> dict[str, str] | None:
    return read_mapping(settings.map) if settings.map else None


def _splits(
    plan: Protocol,
    contest: Contest,
    cases: Sequence[Case],
    classes: Classes,
    settings: EvaluateSettings,
    *,
    display: Display,
    checks: tuple[InstanceCheck, InstanceCheck],
) -> tuple[list[Section], Predict]:
    """Score each split on its test fold; the mean of the splits stands first."""
    if not any(case.columns["fold"] for case in cases):
        raise UsageError("A protocol needs to know each image's fold; give a column 'fold' with --images FILE.")
    folds = np.array([case.columns["fold"] for case in cases], dtype=np.str_)
    tested = [[cases[int(i)] for i in np.flatnonzero(in_fold(folds, split.test))] for split in plan.splits]
    predictors = _predictors(contest, tested, classes, settings)
    counts = [
        _count(f"fold {split.test}", some, predict, classes, display, checks=checks)
        for split, some, predict in zip(plan.splits, tested, predictors, strict=True)
    ]
    numbers = [split.test for split in plan.splits]
    options: dict[str, Any] = {"group": settings.group, "resamples": settings.resamples, "seed": settings.seed}
    mean = Section("", "mean of splits", join(counts), score_splits(counts, numbers, **options), [], [])
    each = [
        Section("split", f"split {number}, fold {fold}", table, score(table, **options), [], [])
        for number, (fold, table) in enumerate(zip(numbers, counts, strict=True), 1)
    ]
    return [mean, *each], predictors[0]


def _about(contest: Contest, settings: EvaluateSettings) -> dict[str, str]:
    """Return what was scored, as text."""
    about = {"truth": ", ".join(map(str, contest.truths))}
    if contest.model is not None:
        bundle = load_bundle(contest.model)
        about["model"] = f"{bundle.spec.name} {bundle.spec.version} (model.onnx {bundle.sha256[:12]})"
    else:
        about["predicted"] = ", ".join(map(str, contest.predicted))
    if contest.baseline is not None:
        about["baseline"] = contest.baseline
    if settings.held_back is not None:
        about["chosen"] = (
            f"images that training holds back ({settings.held_back:g} of each source's groups, seed {settings.seed})"
        )
    return {**about, "cytolite": version("cytolite")}


def _write(
    folder: Path,
    found: Sequence[Section],
    bootstrap: Bootstrap,
    about: dict[str, str],
    *,
    doubts: Sequence[Doubt],
    pictures: Sequence[html.Picture],
) -> None:
    report = as_json(found, bootstrap, {"about": about, "warnings": [asdict(doubt) for doubt in doubts]})
    (folder / REPORT_NAME).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    drawn, note = _draw(folder / "plots", found)
    title = f"Evaluation of {(about.get('model') or about['predicted']).split(' (')[0]}"
    warnings = [doubt.message for doubt in doubts]
    text = html.render(title, about, found, bootstrap, drawn=drawn, pictures=pictures, note=note, warnings=warnings)
    (folder / HTML_NAME).write_text(text, encoding="utf-8")
    if pictures:
        (folder / "images").mkdir()
    for number, picture in enumerate(pictures, 1):
        (folder / "images" / f"{number:02}.jpg").write_bytes(picture.jpeg)


def _draw(folder: Path, found: Sequence[Section]) -> tuple[dict[str, dict[str, str]], str]:
    """Draw the charts as PNG files; return them as SVG by section and name, or say why there are none."""
    try:
        import matplotlib  # noqa: F401 - only to know whether it is there
    except ModuleNotFoundError:
        return {}, NO_CHARTS
    from cytolite.evaluation.plots import charts, png, svg

    folder.mkdir()
    drawn: dict[str, dict[str, str]] = {}
    charted = [s for s in found[1:] if sum(o.column == s.column for o in found) <= MOST_CHARTED]
    for section in [found[0], *charted]:
        figures = charts(section)
        name = "-".join("".join(c if c.isalnum() else " " for c in section.title).split())
        for chart, figure in figures.items():
            (folder / f"{name}-{chart}.png").write_bytes(png(figure))
        drawn[section.title] = {chart: svg(figure) for chart, figure in figures.items()}
    return drawn, ""


def _pictures(counts: Counts, cases: Sequence[Case], predict: Predict, classes: Classes) -> list[html.Picture]:
    """Draw the best, the median and the worst image by PQ, types left aside, of each source."""
    by_key = {(c.columns["source"], c.name): c for c in cases}
    v = {name: array[:, 0] for name, array in counts.values.items()}
    pq = quality("pq", v["iou_sum"], v["tp"], v["fp"], v["fn"])
    pictures, seen = [], set()
    for source in np.unique(counts.images["source"]):
        of_source = (counts.images["source"] == source) & ~counts.partly
        # One nucleus, found or not, is the best and the worst of images and shows nothing.
        many = of_source & (v["n_true"] >= MANY_NUCLEI)
        rows = np.flatnonzero(many if many.any() else of_source & (v["n_true"] > 0))
        order = rows[np.argsort(pq[rows], kind="stable")]
        if not len(order):
            continue
        for what, i in (("best", order[-1]), ("median", order[len(order) // 2]), ("worst", order[0])):
            key = (str(source), str(counts.images["image"][i]))
            if key in seen:
                continue
            seen.add(key)
            labelled, truth, prediction = look_at(by_key[key], predict, classes)
            where = f"{what.capitalize()} of {source}" if source else what.capitalize()
            title = f"{where}: {key[1]}, PQ {pq[i]:.3f}, {v['n_true'][i]:,.0f} true nuclei"
            pictures.append(html.Picture(title, side_by_side(labelled.image, truth, prediction, classes)))
    return pictures
