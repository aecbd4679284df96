"""The method on one page: one short function per verb."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cytolite.config import (
    DistillSettings,
    EvaluateSettings,
    RelabelSettings,
    SegmentSettings,
    SpatialSettings,
    TeachSettings,
    TrainSettings,
)
from cytolite.errors import InputError, UsageError
from cytolite.progress import Batch, Display, Update, silent
from cytolite.segmentation.results import prepare_output
from cytolite.segmentation.run import Outcome, load_model, try_slide

if TYPE_CHECKING:
    from cytolite.bundle import Bundle
    from cytolite.evaluation.report import Section
    from cytolite.inference.predictor import Model as NucleusModel
    from cytolite.interop.cohort import Cohort
    from cytolite.relabel.run import Relabelled
    from cytolite.release.variants import Comparison
    from cytolite.segmentation.cohort import Ledger
    from cytolite.segmentation.info import SlideInfo
    from cytolite.segmentation.slide_list import Entry
    from cytolite.spatial.run import Measured
    from cytolite.teach.run import Taught
    from cytolite.training.teacher import Teacher

Item = TypeVar("Item")
# Further, and outlines of nuclei are triangles.
MOST_SIMPLE_UM = 2.0


def segment_slides(
    slides: Sequence[str | Path],
    output: Path,
    settings: SegmentSettings,
    display: Display = silent,
    report: Callable[[Outcome], None] = lambda outcome: None,
    *,
    slide_list: Path | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
) -> list[Outcome]:
    """Segment many slides, one after the other (small images side by side) or on a cluster; if one fails others go on.

    Of several slides the folder gets the cohort's tables, too; see `collect`.

    Parameters
    ----------
    slides : sequence of str or pathlib.Path
        Files and patterns; a file named twice is done once.
    output : pathlib.Path
        Folder that gets one folder per slide.
    settings : SegmentSettings
        For all slides, where the list says nothing else.
    display : Display
        Shows progress.
    report : callable
        Called with each outcome as soon as it is known.
    slide_list : pathlib.Path, optional
        More slides, with settings and columns of their own; see `cytolite.segmentation.slide_list`.
    cluster : str, optional
        See `cytolite.segmentation.dask_cluster.connect`; needs the extra `cluster`.
    jobs : int, optional
        Of the cluster, at most.

    Returns
    -------
    list of Outcome
        One per slide, in order.

    Raises
    ------
    CytoliteError
        If nothing can be done at all: no slide, no model, regions that cannot be read, no writable output.
    """
    from cytolite.segmentation.slide_list import entries_of, folders_of

    models = Models()
    models(settings)
    entries = entries_of(slides, slide_list, settings)
    if settings.roi is not None:
        from cytolite.interop.roi import read_regions

        read_regions(settings.roi)
    prepare_output(output)
    folders = folders_of(entries, output)
    if len(entries) == 1 and slide_list is None and cluster is None:
        outcomes = [try_slide(entries[0], folders[0], models(settings), display)]
        report(outcomes[0])
        return outcomes
    if cluster is None:
        with _kept(output, entries, folders) as ledger:
            return _one_by_one(entries, folders, models, ledger=ledger, display=display, report=report)
    from cytolite.segmentation.dask_cluster import connect
    from cytolite.segmentation.dask_executor import alone, segment_on_cluster

    with alone(output), connect(cluster, jobs) as client, _kept(output, entries, folders) as ledger:
        return segment_on_cluster(client, entries, folders, models, ledger=ledger, display=display, report=report)


@contextmanager
def _kept(output: Path, entries: Sequence[Entry], folders: Sequence[Path]) -> Iterator[Ledger]:
    """Give the ledger of a run over several slides; when it ends, however it ends, the cohort's tables are made."""
    from cytolite.segmentation.cohort import Ledger

    ledger = Ledger(output, entries, folders)
    try:
        yield ledger
    finally:
        ledger.end()
        collect(output)


class Models:
    """The models that the slides of a run need, each loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str | None, str, str, int], NucleusModel] = {}

    def __call__(self, settings: SegmentSettings) -> NucleusModel:
        """Return the model that `settings` name; raises what `load_model` raises."""
        key = (settings.model, settings.device, settings.precision, settings.tta)
        if key not in self._loaded:
            self._loaded[key] = load_model(settings)
        return self._loaded[key]


def _one_by_one(
    entries: Sequence[Entry],
    folders: Sequence[Path],
    models: Models,
    *,
    ledger: Ledger,
    display: Display,
    report: Callable[[Outcome], None],
) -> list[Outcome]:
    from cytolite.segmentation.side_by_side import SideBySide

    batch = Batch(display, len(entries))
    outcomes = []
    with SideBySide(entries, folders, models) as work:
        for i, folder in enumerate(folders):
            shown = ledger.watch(batch.display(i + 1, sum(work.to_do[i:])), folder)
            outcome = work.outcome(i, shown)
            ledger.settle(outcome)
            report(outcome)
            outcomes.append(outcome)
    return outcomes


def slide_infos(
    slides: Sequence[str | Path],
    settings: SegmentSettings,
    *,
    slide_list: Path | None = None,
    pictures: Path | None = None,
    timed: bool = True,
    report: Callable[[SlideInfo], None] = lambda info: None,
) -> list[SlideInfo]:
    """Return what is known of slides before a run: file, tissue, quality, tiles, and the time that it would take here.

    Parameters
    ----------
    slides : sequence of str or pathlib.Path
        Files and patterns; a file named twice is looked at once.
    settings : SegmentSettings
        For all slides, where the list says nothing else.
    slide_list : pathlib.Path, optional
        More slides, with settings and columns of their own.
    pictures : pathlib.Path, optional
        Folder that gets a picture of each slide with its tissue and artefacts.
    timed : bool
        Whether to measure how fast the model is, on a tile.
    report : callable
        Called with each as soon as it is known.

    Raises
    ------
    CytoliteError
        If nothing can be said at all; what is wrong with one slide is part of what is returned.
    """
    from cytolite.segmentation.info import Looker
    from cytolite.segmentation.slide_list import entries_of, folders_of

    entries = entries_of(slides, slide_list, settings)
    if pictures is not None:
        prepare_output(pictures)
    names = [folder.name for folder in folders_of(entries, pictures or Path())]
    looker = Looker(Models(), timed=timed, pictures=pictures)
    infos = []
    for entry, name in zip(entries, names, strict=True):
        infos.append(looker.look(entry, name))
        report(infos[-1])
    return infos


def collect(output: Path) -> Cohort:
    """Make the tables and the page of a cohort again, from the results in a folder.

    They are ``cohort.parquet``, ``cohort.csv``, ``failures.csv`` and ``cohort.html``.
    """
    from cytolite.segmentation.cohort import collect as run

    return run(output)


def status(output: Path) -> str:
    """Return how far the run is that works, or worked last, on a folder of results."""
    from cytolite.segmentation.cohort import status as run

    return run(output)


def models() -> list[dict[str, Any]]:
    """Return the embedded bundles, the default first.

    Returns
    -------
    list of dict
        ``name``, ``version``, ``default`` (bool), ``parameters``, ``size_bytes`` (of all its files), ``licence``,
        ``purpose`` and ``path``.

    Raises
    ------
    BundleError
        If one is damaged.
    """
    from cytolite.bundle import disk_bytes, embedded_names, load_bundle, purpose

    default = load_bundle().spec.name
    names = sorted(embedded_names(), key=lambda name: name != default)
    return [
        {
            "name": name,
            "version": bundle.spec.version,
            "default": name == default,
            "parameters": bundle.spec.parameters,
            "size_bytes": disk_bytes(bundle),
            "licence": bundle.spec.licence,
            "purpose": purpose(name),
            "path": str(bundle.path),
        }
        for name, bundle in ((name, load_bundle(name)) for name in names)
    ]


def inspect(model: str | Path | None = None, speed: bool = False) -> str:
    """Return what a model bundle says about itself: ``model.json``, its size (and what it needs here), its card.

    Parameters
    ----------
    model : str or pathlib.Path, optional
        By default the embedded one.
    speed : bool
        Measure memory and speed of its network on this machine, which takes seconds to minutes.

    Raises
    ------
    BundleError
        If there is no such bundle, or it is damaged.
    """
    from cytolite.bundle import CARD_NAME, disk_bytes, load_bundle

    bundle = load_bundle(model)
    card = bundle.path / CARD_NAME
    text = f"{bundle.path}\n\n{bundle.spec.model_dump_json(indent=2)}\n\n"
    text += (
        f"parameters           {bundle.spec.parameters:,}\nsize on disk         {disk_bytes(bundle) / 2**20:.1f} MB\n"
    )
    text += _needs(bundle) if speed else ""
    return text + (f"\n{card.read_text(encoding='utf-8')}" if card.is_file() else "")


def evaluate(
    truth: Sequence[Path],
    output: Path,
    settings: EvaluateSettings,
    predicted: Sequence[Path] = (),
    *,
    model: str | None = None,
    baseline: str | None = None,
    page: Path | None = None,
    display: Display = silent,
    warn: Callable[[str], None] = warnings.warn,
) -> list[Section]:
    """Score predictions against a truth and write a report; return the scores of all images, then of groups.

    Parameters
    ----------
    truth : sequence of pathlib.Path
        Label folders and stores.
    output : pathlib.Path
        Folder of the report.
    settings : EvaluateSettings
        What labels mean, which images, how intervals are drawn.
    predicted : sequence of pathlib.Path
        Label folder, results of `segment` or a ``cells.parquet``; one for each split of a protocol.
    model, baseline : str, optional
        Bundle that predicts in place of `predicted`; predictions or a bundle to compare with.
    page : pathlib.Path, optional
        Markdown file to write as well.
    display : Display
        Shows progress, in images.
    warn : callable
        Told what may be wrong: types that do not mean the same, masks in place of instances.

    Raises
    ------
    CytoliteError
        If truth and predictions do not fit each other, or the report cannot be written.
    """
    from cytolite.evaluation.run import Contest, write_page
    from cytolite.evaluation.run import evaluate as score

    contest = Contest(truth, predicted, model, baseline)
    found = score(contest, output, settings, display, warn)
    if page is not None:
        write_page(page, contest, settings, found, output)
    return found


def convert(
    source: Path,
    target: Path,
    *,
    classes: Mapping[str, str] | None = None,
    mpp: float | None = None,
    mapping: Mapping[str, str] | None = None,
    outlines: bool = False,
    metadata: bool = False,
    overwrite: bool = False,
    simplify_um: float | None = None,
    update: Update = lambda done_mb, total_mb: None,
) -> tuple[int, list[str]]:
    """Convert a file of cells to another format; return the number of cells, and what was not taken over as it was.

    See `cytolite.interop.convert.convert`.

    Parameters
    ----------
    source, target : pathlib.Path
        Files of cells; the endings say their formats.
    classes : mapping, optional
        Of a foreign GeoJSON: classification to type.
    mpp : float, optional
        Resolution of a file that does not say it, um per pixel.
    mapping : mapping, optional
        Names of the types to names of the types that are wanted.
    outlines, metadata : bool
        As of the command.
    overwrite : bool
        Replace a target that is there.
    simplify_um : float, optional
        Leave out vertices as long as an outline moves by no more.
    update : Update
        Is told how much is done.
    """
    from cytolite.config import MPP_MAX, MPP_MIN
    from cytolite.interop.convert import convert as run

    if mpp is not None and not MPP_MIN <= mpp <= MPP_MAX:
        raise UsageError(f"--mpp {mpp} is no microscope's resolution; allowed are {MPP_MIN:g} to {MPP_MAX:g}.")
    if simplify_um is not None and not 0 < simplify_um <= MOST_SIMPLE_UM:
        raise UsageError(f"--simplify {simplify_um:g} is not allowed; more than 0 and up to {MOST_SIMPLE_UM:g} um are.")
    return run(
        source, target, classes=classes, mpp=mpp, outlines=outlines, metadata=metadata, overwrite=overwrite,
        simplify_um=simplify_um, mapping=mapping, update=update,
    )  # fmt: skip


def convert_cohort(
    source: Path,
    target: Path,
    ending: str,
    *,
    display: Display = silent,
    **options: Any,
) -> tuple[int, list[str]]:
    """Convert each result in a folder of results: to ``TARGET/NAME.ENDING``; return as `convert`, of all together.

    Parameters
    ----------
    source : pathlib.Path
        Folder of results.
    target : pathlib.Path
        Folder of the files.
    ending : str
        Of the format, with its point.
    display : Display
        Shows progress.
    **options
        Others of `convert`, for all results.

    Raises
    ------
    CytoliteError
        If there are no results, or one cannot be converted; those before it are there then.
    """
    from cytolite.interop.convert import ENDINGS
    from cytolite.interop.result_folder import CELLS_FILE, results_in

    ending = f".{ending.removeprefix('.')}"
    if ending not in ENDINGS:
        raise UsageError(f"--to {ending} is not known; allowed are {', '.join(ENDINGS)}.")
    folders = results_in(source, CELLS_FILE)
    if not folders:
        raise UsageError(f"{source} holds no results: name the folder that was the --output of `segment`.")
    prepare_output(target)
    total, notes = 0, []
    for folder in folders:
        with display(folder.name, "MB") as update:
            n, warned = convert(folder, target / f"{folder.name}{ending}", update=update, **options)
        total += n
        notes += [f"{folder.name}: {note}" for note in warned]
    return total, notes


def spatial(
    results: Sequence[Path],
    settings: SpatialSettings,
    *,
    output: Path | None = None,
    slides: Path | None = None,
    by: str | None = None,
    display: Display = silent,
) -> tuple[list[Measured], Path | None]:
    """Measure the surroundings of tumours in results; return what became of each, and the cohort's page.

    Parameters
    ----------
    results : sequence of pathlib.Path
        Folders that `segment` wrote, or that hold such; each gets a folder ``spatial``.
    settings : SpatialSettings
        For all.
    output : pathlib.Path, optional
        Folder for the cohort: one table of all slides, and comparisons.
    slides : pathlib.Path, optional
        CSV file of slides, for the comparison.
    by : str, optional
        Its column to compare by.
    display : Display
        Shows progress.

    Raises
    ------
    CytoliteError
        If nothing can be done at all: no result, or a cohort that cannot be made or written.
    """
    from cytolite.spatial.cohort import read_groups, write_cohort
    from cytolite.spatial.run import measure_results

    groups = read_groups(slides, by, output)
    outcomes = measure_results(results, settings, display)
    measured = [outcome for outcome in outcomes if not outcome.message]
    return outcomes, write_cohort(output, measured, groups) if output is not None and measured else None


def teach(results: Sequence[Path], labels: Sequence[Path], output: Path, settings: TeachSettings) -> Taught:
    """Teach a model types by labels on results; see `cytolite.teach.run.teach`.

    Parameters
    ----------
    results : sequence of pathlib.Path
        Folders of results.
    labels : sequence of pathlib.Path
        Files of labelled nuclei.
    output : pathlib.Path
        Folder of the bundle, or a file of suggestions.
    settings : TeachSettings
        Everything else.
    """
    from cytolite.teach.run import teach as run

    return run(results, labels, output, settings)


def suggest_labels(result: Path, output: Path, n: int, slide: Path | None = None) -> tuple[int, list[str]]:
    """Write nuclei worth labelling next as GeoJSON and, if the slide is there, a sheet of their crops beside it.

    Parameters
    ----------
    result : pathlib.Path
        Folder of a result.
    output : pathlib.Path
        GeoJSON file to write.
    n : int
        How many nuclei.
    slide : pathlib.Path, optional
        Where the slide lies now, if not where it was.

    Returns
    -------
    n : int
        How many there are.
    notes : list of str
        Why there is no sheet.
    """
    from cytolite.drawing.type_sheet import draw_chosen
    from cytolite.interop.result import Result
    from cytolite.teach.suggest import suggest, write_suggestions

    if not output.name.endswith((".geojson", ".json")):
        raise UsageError(f"{output} is no name of a GeoJSON file; it ends in .geojson.")
    opened = Result(result)
    rows = suggest(opened.cells, n)
    write_suggestions(output, opened.cells, rows)
    try:
        draw_chosen(opened, rows, output.with_suffix(".png"), slide)
    except InputError as error:
        return len(rows), [f"There is no sheet of crops: {error}"]
    return len(rows), []


def name_results(
    model: str | Path,
    results: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = False,
    done: Callable[[Path, int, tuple[str, ...]], None] = lambda folder, n, warnings: None,
) -> list[Path]:
    """Write results again with the names of a taught model; see `cytolite.teach.naming.name_results`.

    Parameters
    ----------
    model : str or pathlib.Path
        A taught bundle, by name or path.
    results : sequence of pathlib.Path
        Folders of results.
    output : pathlib.Path
        Folder for the new ones.
    overwrite : bool
        Replace results that are there.
    done : callable
        Is told of each result: its folder, its cells, warnings.
    """
    from cytolite.teach.naming import name_results as run

    return run(model, results, output, overwrite=overwrite, done=done)


def sheet(
    result: Path,
    output: Path | None = None,
    *,
    slide: Path | None = None,
    region: str | None = None,
    columns: int = 16,
) -> Path:
    """Draw crops of the nuclei of each type of a result; return the picture's path.

    Parameters
    ----------
    result : pathlib.Path
        Folder of a result.
    output : pathlib.Path, optional
        Picture to write; beside the result by default.
    slide : pathlib.Path, optional
        Where the slide lies now, if not where it was.
    region : str, optional
        Nuclei of one region alone, by its name.
    columns : int
        Crops of each type.
    """
    from cytolite.drawing.type_sheet import draw_result
    from cytolite.interop.result import Result
    from cytolite.interop.result_folder import SHEET_FILE

    path = output or result / SHEET_FILE
    draw_result(Result(result), path, slide=slide, region=region, columns=columns)
    return path


def _needs(bundle: Bundle) -> str:
    """The rest of the paper's Table 4, measured here."""
    from cytolite.inference.profile import measure

    found = measure(bundle)
    memory = "not told by this system" if found.memory_mb is None else f"{found.memory_mb:,.0f} MB"
    return (
        f"memory at batch 32   {memory} (32 images of 256 x 256 px, growth of the peak of resident memory)\n"
        f"speed                {found.mm2_per_s:.2f} mm²/s (network alone, one thread)\n"
    )


def inspect_stores(
    paths: Sequence[Path],
    *,
    sheet: Path | None = None,
    pairs: Path | None = None,
    duplicates: bool = True,
    display: Display = silent,
) -> str:
    """Return what stores hold: patches, sources, nuclei per type, near-duplicates; and draw some of their patches.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Stores; duplicates are looked for among all of them.
    sheet : pathlib.Path, optional
        PNG to draw patches in, with their outlines.
    pairs : pathlib.Path, optional
        CSV file for the duplicates, which `train` takes.
    duplicates : bool
        Look for them.
    display : Display
        Shows progress of that.

    Raises
    ------
    CytoliteError
        If a store cannot be read or a file not be written.
    """
    from cytolite.datasets import describe
    from cytolite.datasets.duplicates import find_duplicates, write_pairs
    from cytolite.datasets.store import Stores
    from cytolite.drawing import patch_sheet as sheets
    from cytolite.files import whole_file

    if pairs is not None and not duplicates:
        raise UsageError(
            "There are no pairs to write without looking for duplicates; leave one of the two options out."
        )
    with Stores(paths) as stores:
        sources, names = stores.texts("source"), stores.texts("name")
        text = describe.describe(stores)
        if sheet is not None:
            picture = sheets.draw_sheet(stores, sources, stores.numbers("nuclei"), labels=stores.labels)
            with whole_file(sheet) as file:
                picture.save(file, "PNG")
        if duplicates:
            with display("looking for duplicates", "steps") as update:
                found = find_duplicates(stores.__getitem__, sources, stores.texts("group"), update)
            text += "\n\n" + describe.describe_duplicates(found, sources, names)
            if pairs is not None:
                write_pairs(pairs, found, sources, names)
        return text


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote, what each rule of cutting made, and what is worth telling."""

    n: int
    rules: tuple[str, ...]
    notes: tuple[str, ...]


def prepare(
    dataset: str,
    folder: Path,
    out: Path,
    *,
    patch: int | None = None,
    types: Path | None = None,
    mpp: float | None = None,
    display: Display = silent,
) -> Prepared:
    """Read a public dataset, or a label folder, and write its patches into a store.

    Parameters
    ----------
    dataset : str
        Of the catalogue, or "labels".
    folder : pathlib.Path
        The dataset, as its authors publish it or as label images.
    out : pathlib.Path
        Store to write.
    patch : int, optional
        Side in px that images are cut to; without it they stay whole.
    types : pathlib.Path, optional
        Of "labels": the file that says what type ids mean.
    mpp : float, optional
        Of "labels": the resolution, um per px.
    display : Display
        Shows progress.

    Raises
    ------
    CytoliteError
        If the dataset is not known, the folder is not what it is published as, or the store cannot be written.
    """
    from cytolite.datasets.catalogue import open_dataset
    from cytolite.datasets.cutting import Tally, cut
    from cytolite.datasets.store import write_store

    reading, licence = open_dataset(dataset, folder, types, mpp)
    tally = Tally()
    with display(dataset, "images") as update:
        patches = _counted(reading, len(reading), update)
        n = write_store(out, cut(patches, patch, tally) if patch else patches, licence, labels=reading.labels)
    return Prepared(n, tuple(tally.lines() if patch else ()), tuple(reading.notes))


def _counted(items: Iterable[Item], n: int, update: Update) -> Iterator[Item]:
    """Pass items on and tell how many are done."""
    update(0, n)
    for done, item in enumerate(items, 1):
        yield item
        update(done, n)


def relabel(stores: Sequence[Path], out: Path, settings: RelabelSettings, display: Display = silent) -> Relabelled:
    """Split coarse labels by classifiers trained on another dataset; see `cytolite.relabel.run.relabel`.

    Parameters
    ----------
    stores : sequence of pathlib.Path
        All go into the refined store; the recipe says which train and which are relabelled.
    out : pathlib.Path
        Folder of the result.
    settings : RelabelSettings
    display : Display
        Shows progress.

    Raises
    ------
    InputError
        If the recipe, a store or a setting cannot be used, or `out` holds another result.
    """
    from cytolite.relabel.run import relabel as run

    return run(stores, out, settings, display)


def outline(
    stores: Sequence[Path],
    out: Path,
    model: str | None = None,
    *,
    tta: int = 1,
    threads: int = 2,
    display: Display = silent,
) -> str:
    """Outline the nuclei that experts marked by points or boxes with a model; return what became of the marks.

    See `cytolite.relabel.outlining`. `out` gets ``outlined.h5``, all patches of all stores, and ``audit.parquet``, a
    row per mark.

    Parameters
    ----------
    stores : sequence of pathlib.Path
        Patches without marks are taken over as they are.
    out : pathlib.Path
        Folder of the result.
    model : str, optional
        Bundle, by name or path; by default the embedded one.
    tta, threads : int
        As of `cytolite.inference.predictor.Predictor`.
    display : Display
        Shows progress.

    Raises
    ------
    CytoliteError
        If a store or the model cannot be read, or the result not be written.
    """
    import pyarrow as pa

    from cytolite.bundle import load_bundle
    from cytolite.datasets.store import Stores, write_store
    from cytolite.relabel.audit import write_audit
    from cytolite.relabel.outliner import outliner
    from cytolite.relabel.outlining import SCHEMA, outline_stores, summary

    bundle = load_bundle(model)
    rows = [SCHEMA.empty_table()]
    with Stores(stores) as opened, display("outlining", "patches") as update:
        for store in opened.stores:
            store.of_the_seven("outline")
        seen_by = outliner(bundle, tta, threads)
        out.mkdir(parents=True, exist_ok=True)
        patches = outline_stores(opened.stores, seen_by, rows)
        licences = {source: text for store in opened.stores for source, text in store.licences.items()}
        told = " ".join(["cytolite outline", *(path.name for path in stores), "-o", out.name])
        told += f" --model {bundle.spec.name} --tta {tta}"
        write_store(out / "outlined.h5", _counted(patches, len(opened), update), licences, told)
    table = pa.concat_tables(rows)
    write_audit(out / "audit.parquet", table)
    return summary(table)


def train(stores: Sequence[Path], out: Path, settings: TrainSettings) -> Path:
    """Train a student on stores, or go on with a run that was stopped; return its last checkpoint.

    Parameters
    ----------
    stores : sequence of pathlib.Path
        What `prepare` wrote.
    out : pathlib.Path
        Folder of the run.
    settings : TrainSettings
        Everything that determines the network.

    Raises
    ------
    InputError
        If a store cannot be read, or `out` holds another run.
    """
    from cytolite.training.run import train as run

    return run(stores, out, settings)


def distill(teacher: str, stores: Sequence[Path], out: Path, settings: DistillSettings) -> Path:
    """Train a student on stores and on a teacher's soft targets, or go on with it; return its last checkpoint.

    Parameters
    ----------
    teacher : str
        Folder of a run, or a bundle by name or path; `settings.teachers` names more.
    stores : sequence of pathlib.Path
        What `prepare` wrote.
    out : pathlib.Path
        Folder of the run.
    settings : DistillSettings
        Everything else that determines the network.

    Raises
    ------
    InputError
        If the teacher or a store cannot be read, or `out` holds another run.
    """
    from cytolite.training.run import distill as run

    names = (teacher, *settings.teachers)
    return run([load_teacher(name, settings.threads) for name in names], stores, out, settings)


def load_teacher(name: str, threads: int) -> Teacher:
    """Return a run, or a bundle, as a teacher.

    Parameters
    ----------
    name : str
        Of an embedded model, or the folder of a bundle or of a run.
    threads : int
        Of a bundle's network.

    Raises
    ------
    InputError
        If it is neither.
    """
    from cytolite.training.record import RECORD
    from cytolite.training.run import run_teacher
    from cytolite.training.teacher import maps_teacher

    if (Path(name) / RECORD).exists():
        return run_teacher(Path(name))
    from cytolite.bundle import load_bundle
    from cytolite.inference.predictor import Predictor

    bundle = load_bundle(name)
    predictor = Predictor(bundle, threads=threads)
    types = bundle.spec.network_types.names
    return maps_teacher(str(bundle.path), bundle.sha256, bundle.spec.mpp, predictor.maps, types)


def export(run: Path, out: Path, model_version: str, stores: Sequence[Path] = (), truth: Sequence[Path] = ()) -> Bundle:
    """Make a bundle of a training run: ONNX checked against torch, scored on the held-back images, with its card.

    Parameters
    ----------
    run : pathlib.Path
        Folder that `train` wrote.
    out : pathlib.Path
        Folder of the bundle; its name becomes the model's.
    model_version : str
        Of the weights.
    stores : sequence of pathlib.Path
        Where the run's stores are now, in the same order; empty if they have not moved.
    truth : sequence of pathlib.Path
        Stores of the same images whose labels the bundle is scored on, when those that trained it were relabelled.

    Raises
    ------
    CytoliteError
        If the run is not whole, `truth` has other images, or the exported network differs from torch.
    """
    from cytolite.release.bundle import release

    return release(run, out, model_version, stores, truth)


def export_variant(
    model: str, out: Path, kind: Literal["float16", "int8"], stores: Sequence[Path], duplicates: Path | None = None
) -> tuple[str, str]:
    """Make a smaller variant of a bundle; return what it costs on the images that its run held back, and a warning.

    The warning is empty where it is known which images those are.

    Parameters
    ----------
    model : str
        Bundle, by name or path.
    out : pathlib.Path
        Folder of the variant; names it.
    kind : {"float16", "int8"}
        Of its arithmetic.
    stores : sequence of pathlib.Path
        What the bundle was trained on.
    duplicates : pathlib.Path, optional
        The pairs that its run was given, if it was.

    Raises
    ------
    CytoliteError
        If there is no such bundle, or a store cannot be read.
    """
    from cytolite.bundle import load_bundle
    from cytolite.release.variants import make_variant

    return _compared(*make_variant(load_bundle(model), out, kind, stores, duplicates))


def export_embedding(model: str, out: Path, stores: Sequence[Path], duplicates: Path | None = None) -> Bundle:
    """Write a bundle again so that it gives embeddings, fitted to what its run was trained on.

    Parameters
    ----------
    model : str
        A bundle by name or path.
    out : pathlib.Path
        Folder of the new bundle; names it.
    stores : sequence of pathlib.Path
        What its run was trained on.
    duplicates : pathlib.Path, optional
        The pairs that its run was given, if it was.

    Raises
    ------
    CytoliteError
        If there is no such bundle, its graph is of another make, or a store cannot be read.
    """
    from cytolite.bundle import load_bundle
    from cytolite.release.embedding import make_embedding

    return make_embedding(load_bundle(model), out, stores, duplicates)


def export_ensemble(
    models: Sequence[str], out: Path, model_version: str, stores: Sequence[Path], duplicates: Path | None = None
) -> tuple[str, str]:
    """Make one bundle of several; return what it gains on images that all runs held back, and a warning.

    The warning is empty where it is known which images those are.

    Parameters
    ----------
    models : sequence of str
        Two bundles or more, by name or path.
    out : pathlib.Path
        Folder of the new bundle; names it.
    model_version : str
        Of the new bundle.
    stores : sequence of pathlib.Path
        What the members were trained on.
    duplicates : pathlib.Path, optional
        The pairs that their runs were given, if they were.

    Raises
    ------
    CytoliteError
        If one is missing, they do not fit together, or a store cannot be read.
    """
    from cytolite.bundle import load_bundle
    from cytolite.release.ensemble import make_ensemble

    members = [load_bundle(model) for model in models]
    return _compared(*make_ensemble(members, out, model_version, stores, duplicates))


def _compared(bundle: Bundle, found: Sequence[Comparison], note: str) -> tuple[str, str]:
    told = [f"{c.name}: {c.before} -> {c.after}, {c.difference.signed}, n = {c.before.n}" for c in found]
    return "\n".join([*told, str(bundle.path)]), note


def export_torchscript(run: Path, out: Path, stores: Sequence[Path] = ()) -> float:
    """Write a run's network as TorchScript; return its largest difference from torch on a held-back image.

    Parameters
    ----------
    run : pathlib.Path
        Folder that `train` or `distill` wrote.
    out : pathlib.Path
        File to write, ``.pt``.
    stores : sequence of pathlib.Path
        Where the run's stores lie now, if they have moved.

    Raises
    ------
    CytoliteError
        If the run is not whole, or the difference is too large.
    """
    from cytolite.inference.image import model_input
    from cytolite.release.onnx_export import export_torchscript as write
    from cytolite.training.record import read_record
    from cytolite.training.run import split, trained_network
    from cytolite.training.vocabulary import Vocabulary

    network, settings, trained_on = trained_network(run)
    patch = split(list(stores) or trained_on, settings, Vocabulary.recorded(read_record(run)))[1][0]
    return write(network, out, model_input(patch.image, patch.mpp, settings.mpp).image[None])
