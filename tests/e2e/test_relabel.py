"""The whole of `relabel` on painted cells whose true type is known, and the sentences for what cannot be done."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytest.importorskip("torch", reason="relabelling needs the extra `train`")
pytest.importorskip("h5py", reason="stores need the extra `train`")

from command import cytolite
from cytolite import celltypes, pipeline
from cytolite.celltypes import EPITHELIAL_OR_NEOPLASTIC, LABEL_NAMES, UNKNOWN_NUCLEUS
from cytolite.config import RelabelSettings
from cytolite.datasets.duplicates import COLUMNS
from cytolite.datasets.store import Store, write_store
from cytolite.errors import InputError
from cytolite.patches import Patch
from cytolite.relabel.crops import find_cells
from cytolite.relabel.samples import crops_of
from fakes import random_nuclei

NEOPLASTIC, EPITHELIAL, CONNECTIVE = (celltypes.by_name(n).id for n in ("neoplastic", "epithelial", "connective"))
RECIPE = """
[[classifier]]
name = "epithelium"
trained_on = ["fine"]
types = ["neoplastic", "epithelial"]

[[split]]
dataset = "coarse"
label = "epithelial or neoplastic"
by = "epithelium"
"""
FAST = {
    "architecture": "test_resnet", "pretrained": False, "crop_px": 32, "epochs": 6, "batch": 8, "learning_rate": 3e-3,
    "min_area_px": 60, "stain_jitter": 0.05, "threads": 1,
}  # fmt: skip


def painted(n: int, source: str, seed: int) -> list[Patch]:
    """Patches of cells: neoplastic ones are dark, epithelial ones pale, connective ones green."""
    rng, patches = np.random.default_rng(seed), []
    colours = np.zeros((8, 3), np.uint8)
    colours[[0, NEOPLASTIC, EPITHELIAL, CONNECTIVE]] = (235, 220, 230), (60, 40, 110), (150, 120, 190), (90, 160, 90)
    for i in range(n):
        instance_map, types = random_nuclei(rng, (96, 96), 14)
        types = np.where(types == 0, 0, rng.choice([NEOPLASTIC, EPITHELIAL, CONNECTIVE], len(types))).astype(np.uint8)
        type_map = types[instance_map]
        image = np.clip(colours[type_map] + rng.integers(-12, 13, (96, 96, 3)), 0, 255).astype(np.uint8)
        patches.append(Patch(f"p{i}", image, instance_map, type_map, 0.25, source, f"g{i // 2}"))
    return patches


def made_coarse(patch: Patch) -> Patch:
    hidden = np.isin(patch.type_map, [NEOPLASTIC, EPITHELIAL])
    return replace(patch, type_map=np.where(hidden, EPITHELIAL_OR_NEOPLASTIC, patch.type_map).astype(np.uint8))


@pytest.fixture(scope="module")
def truth() -> list[Patch]:
    return painted(6, "coarse", 1)


@pytest.fixture(scope="module")
def stores(tmp_path_factory, truth) -> list[Path]:
    folder = tmp_path_factory.mktemp("stores")
    write_store(folder / "fine.h5", painted(24, "fine", 0), {"fine": "CC0-1.0"})
    write_store(folder / "coarse.h5", [made_coarse(patch) for patch in truth])
    write_store(folder / "other.h5", painted(4, "other", 2))
    (folder / "recipe.toml").write_text(RECIPE)
    return [folder / f"{name}.h5" for name in ("fine", "coarse", "other")]


def settings(stores, **changes) -> RelabelSettings:
    return RelabelSettings(**(FAST | {"recipe": stores[0].parent / "recipe.toml"} | changes))


@pytest.fixture(scope="module")
def run(stores, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    return pipeline.relabel(stores, out, settings(stores))


def read(path: Path) -> dict[tuple[str, str], Patch]:
    with Store(path) as store:
        return {(patch.source, patch.name): patch for patch in store}


def check_store_against_audit(run_folder: Path, stores: list[Path]) -> tuple[int, int]:
    """Every changed pixel belongs to an audited cell and carries its new label; all else is as it was."""
    before = {key: patch for path in stores for key, patch in read(path).items()}
    after = read(run_folder / "refined.h5")
    rows = pq.read_table(run_folder / "audit.parquet").to_pylist()
    assert list(after) == list(before)
    n_changed = 0
    for key, old in before.items():
        new = after[key]
        np.testing.assert_array_equal(new.image, old.image)
        np.testing.assert_array_equal(new.instance_map, old.instance_map)
        assert replace(new, image=old.image, instance_map=old.instance_map, type_map=old.type_map) == old
        wanted = old.type_map.copy()
        for row in rows:
            if (row["source"], row["patch"]) == key:
                mask = old.instance_map == row["id"]
                assert LABEL_NAMES[int(old.type_map[mask][0])] == row["old_type"]
                assert row["area_px"] == mask.sum()
                wanted[mask] = celltypes.label_by_name(row["new_type"])
                n_changed += row["new_type"] != row["old_type"]
        np.testing.assert_array_equal(new.type_map, wanted)
    return n_changed, len(rows)


def test_the_refined_store_is_the_audit(run, stores):
    n_changed, n_rows = check_store_against_audit(run.folder, stores)
    assert (n_changed, n_rows) == (run.changed, run.cells)
    with Store(stores[1]) as store:
        coarse = [find_cells(patch).labels == EPITHELIAL_OR_NEOPLASTIC for patch in store]
    assert n_rows == n_changed == sum(int(c.sum()) for c in coarse)  # all of them, the small and the cut ones too


def test_the_refined_store_says_how_it_was_made(run, stores):
    with Store(run.folder / "refined.h5") as refined:
        assert refined.licences == {"fine": "CC0-1.0"}
        words = refined.made_with.split()
    assert words[:7] == ["cytolite", "relabel", "fine.h5", "coarse.h5", "other.h5", "-o", "run"]
    # As typed where the stores lie, the command asks for what is there: the result counts as made already.
    again = cytolite(*words[1:6], run.folder, *words[7:], cwd=stores[0].parent)
    assert again.code == 0, again.err
    assert "already there" in again.out


def test_cells_get_the_type_that_they_are(run, truth):
    """What was hidden is found again, in nearly all cells."""
    patches = {patch.name: patch for patch in truth}
    rows = [row for row in pq.read_table(run.folder / "audit.parquet").to_pylist() if row["as_trained"]]
    right = [
        row["new_type"]
        == LABEL_NAMES[int(patches[row["patch"]].type_map[patches[row["patch"]].instance_map == row["id"]][0])]
        for row in rows
    ]
    assert np.mean(right) > 0.9


def test_the_audit_says_what_it_was_decided_by(run):
    table = pq.read_table(run.folder / "audit.parquet")
    record = json.loads((run.folder / "classifiers" / "epithelium" / "classifier.json").read_text())
    for row in table.to_pylist():
        assert row["p_neoplastic"] + row["p_epithelial"] == pytest.approx(1, abs=1e-6)
        assert row["p_lymphocyte"] is None
        assert row["probability"] == max(row["p_neoplastic"], row["p_epithelial"])
        assert row["new_type"] == row["likeliest_type"] == ("neoplastic" if row["p_neoplastic"] > 0.5 else "epithelial")
        assert (row["classifier"], row["classifier_sha256"]) == ("epithelium", record["sha256"])


def test_the_report_counts_what_is_in_the_stores(run, stores, truth):
    report = json.loads((run.folder / "report.json").read_text())
    n_coarse = run.cells
    counts = report["counts"]
    assert counts["before"]["coarse"]["epithelial or neoplastic"] == n_coarse
    assert "epithelial or neoplastic" not in counts["after"]["coarse"]
    assert counts["after"]["coarse"]["neoplastic"] + counts["after"]["coarse"]["epithelial"] == n_coarse
    assert counts["after"]["fine"] == counts["before"]["fine"]
    for what in ("before", "after"):
        assert sum(counts[what]["coarse"].values()) == sum(int(p.instance_map.max()) for p in truth)
    classifier = report["classifiers"]["epithelium"]
    learnable = [counts["learnable"]["fine"][name] for name in ("neoplastic", "epithelial")]
    assert np.sum([classifier["cells"][side] for side in ("training", "validation", "test")], 0).tolist() == learnable
    assert classifier["crops_per_epoch"] == 2 * min(classifier["cells"]["training"])
    assert (
        classifier["groups"] == {"training": 8, "validation": 3, "test": 1} or sum(classifier["groups"].values()) == 12
    )
    elsewhere = classifier["elsewhere"]
    assert list(elsewhere) == ["other"]
    assert elsewhere["other"]["average"]["cells"] == sum(
        counts["learnable"]["other"][n] for n in ("neoplastic", "epithelial")
    )
    assert elsewhere["other"]["balanced"]["value"] > 0.9
    text = (run.folder / "report.md").read_text()
    assert f"{n_coarse:,} cells looked at" in text
    assert "not for diagnosis" in text


def test_sheets_hold_the_surest_first(run, stores):
    """The first picture of a sheet is the crop of the surest cell, as the classifier saw it."""
    rows = pq.read_table(run.folder / "audit.parquet").to_pylist()
    patches = read(stores[1])
    assert {path.name for path in (run.folder / "sheets").iterdir()} == {
        "coarse-neoplastic.png",
        "coarse-epithelial.png",
    }
    for kind in ("neoplastic", "epithelial"):
        picture = np.asarray(Image.open(run.folder / "sheets" / f"coarse-{kind}.png"))
        mine = [row for row in rows if row["likeliest_type"] == kind]
        surest = min(mine, key=lambda row: (-row["probability"], row["patch"], row["id"]))
        patch = patches["coarse", surest["patch"]]
        cells = find_cells(patch)
        crop = crops_of(patch, cells.boxes[cells.ids == surest["id"]], settings(stores))[0]
        shown = np.asarray(Image.fromarray(crop).resize((72, 72), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(picture[25 : 25 + 72, 4 : 4 + 72], shown)


@pytest.mark.parametrize(("below", "label"), [("coarse", EPITHELIAL_OR_NEOPLASTIC), ("unknown", UNKNOWN_NUCLEUS)])
def test_cells_below_the_threshold_are_not_named(run, stores, tmp_path, below, label):
    """The threshold is one of the cells' own probabilities: it is reached by that cell, missed by those below."""
    probs = pq.read_table(run.folder / "audit.parquet")["probability"].to_numpy()
    threshold = float(np.sort(probs)[len(probs) // 3])
    shutil.copytree(run.folder / "classifiers", tmp_path / "run" / "classifiers")  # trained alike, and used again
    changed = settings(stores, min_probability=threshold, below=below)
    result = pipeline.relabel(stores, tmp_path / "run", changed)
    check_store_against_audit(result.folder, stores)
    for row in pq.read_table(result.folder / "audit.parquet").to_pylist():
        named = row["probability"] >= np.float32(threshold)
        assert row["new_type"] == (row["likeliest_type"] if named else LABEL_NAMES[label])
    report = json.loads((result.folder / "report.json").read_text())
    assert report["splits"][0]["new_types"][LABEL_NAMES[label]] == int((probs < np.float32(threshold)).sum()) > 0


def test_what_is_done_is_not_done_again(run, stores, monkeypatch):
    record = (run.folder / "run.json").read_bytes()
    again = pipeline.relabel(stores, run.folder, settings(stores, threads=2))
    assert again.skipped
    assert (again.cells, again.changed) == (run.cells, run.changed)
    assert (run.folder / "run.json").read_bytes() == record
    with pytest.raises(InputError, match="other settings; choose another folder, or replace it with --overwrite"):
        pipeline.relabel(stores, run.folder, settings(stores, min_probability=0.5))
    recipe = stores[0].parent / "other.toml"
    recipe.write_text(RECIPE.replace("epithelium", "epi"))
    with pytest.raises(InputError, match="other recipe and other stores"):
        pipeline.relabel(stores[:2], run.folder, settings(stores, recipe=recipe))


def test_a_classifier_that_fits_is_used_again_and_another_is_trained(run, stores, tmp_path, monkeypatch):
    from cytolite.relabel import learning

    shutil.copytree(run.folder, tmp_path / "run")
    calls = []
    fit = learning.fit
    monkeypatch.setattr(learning, "fit", lambda *a, **k: calls.append(1) or fit(*a, **k))
    (tmp_path / "run" / "run.json").unlink()  # it was stopped before its end
    result = pipeline.relabel(stores, tmp_path / "run", settings(stores))
    assert calls == []
    assert pq.read_table(result.folder / "audit.parquet").equals(pq.read_table(run.folder / "audit.parquet"))
    assert read(result.folder / "refined.h5").keys() == read(run.folder / "refined.h5").keys()
    pipeline.relabel(stores, tmp_path / "run", settings(stores, seed=3, epochs=1, overwrite=True))
    assert calls == [1]


def test_nothing_counts_of_a_run_that_broke(stores, tmp_path, monkeypatch):
    from cytolite.relabel import run as module

    def broken(*_):
        raise RuntimeError

    monkeypatch.setattr(module, "write_sheets", broken)
    with pytest.raises(RuntimeError):
        pipeline.relabel(stores, tmp_path / "run", settings(stores, epochs=1))
    assert not (tmp_path / "run" / "run.json").exists()
    assert not list((tmp_path / "run").rglob("*.part*"))
    monkeypatch.undo()
    assert not pipeline.relabel(stores, tmp_path / "run", settings(stores, epochs=1)).skipped


def test_two_runs_of_a_seed_are_the_same(run, stores, tmp_path):
    again = pipeline.relabel(stores, tmp_path / "run", settings(stores))
    for name in ("audit.parquet", "report.json", "report.md"):
        assert (again.folder / name).read_bytes() == (run.folder / name).read_bytes()
    with Store(again.folder / "refined.h5") as a, Store(run.folder / "refined.h5") as b:
        assert a.sha256 == b.sha256


def test_a_recipe_without_a_split_scores_alone(stores, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.partition("[[split]]")[0])
    result = pipeline.relabel(stores, tmp_path / "run", settings(stores, recipe=recipe, epochs=1))
    assert (result.cells, result.changed) == (0, 0)
    assert not (tmp_path / "run" / "refined.h5").exists()
    assert (
        "other" in json.loads((tmp_path / "run" / "report.json").read_text())["classifiers"]["epithelium"]["elsewhere"]
    )


def test_duplicates_stay_on_one_side_and_are_no_other_data_set(stores, tmp_path):
    """Patients of "fine" that are all linked cannot be split; what "fine" shows of "other" is not counted."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.partition("[[split]]")[0])
    pairs = tmp_path / "pairs.csv"

    def write(rows):
        pairs.write_text("\n".join(",".join(COLUMNS if i == 0 else row) for i, row in enumerate([(), *rows])) + "\n")
        return settings(stores, recipe=recipe, epochs=1, duplicates=pairs)

    linked = write([("other", "p0", "fine", "p5", "0.99", "100")])
    pipeline.relabel(stores, tmp_path / "run", linked)
    found = json.loads((tmp_path / "run" / "report.json").read_text())["classifiers"]["epithelium"]
    cells = {name: len(find_cells(patch)) for (_, name), patch in read(stores[2]).items()}
    left, counted = found["left_out"]["other"], np.sum(found["elsewhere"]["other"]["confusion"])
    assert 0 < left <= cells["p0"] + cells["p1"]  # the patient's other patch goes with it
    assert 0 < counted <= cells["p2"] + cells["p3"]
    assert f"{left} cells of other are not counted" in (tmp_path / "run" / "report.md").read_text()
    chained = write([("fine", f"p{i}", "fine", f"p{i + 1}", "0.99", "100") for i in range(23)])
    with pytest.raises(InputError, match="too few patients or images"):
        pipeline.relabel(stores, tmp_path / "chained", chained)


@pytest.mark.parametrize(
    ("arguments", "recipe", "sentence"),
    [
        (["fine"], RECIPE, "needs the dataset 'coarse', but the stores hold fine"),
        (
            ["fine", "coarse"],
            RECIPE.replace('"epithelial"]', '"macrophage"]'),
            "which 'epithelial or neoplastic' does not",
        ),
        (["fine", "coarse"], RECIPE.replace('"epithelial"]', '"epitelial"]'), "Did you mean 'epithelial'"),
        (["fine", "coarse"], RECIPE.replace('"coarse"', '"fine"'), "no epithelial or neoplastic cells of fine"),
        (["fine", "coarse"], RECIPE.replace("fine", "fin"), "Did you mean 'fine'"),
        (["fine", "coarse"], RECIPE.replace("fine", "coarse"), "no neoplastic of coarse"),
        (["fine", "nothing"], RECIPE, "There is no store"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_result(stores, tmp_path, arguments, recipe, sentence):
    (tmp_path / "r.toml").write_text(recipe)
    paths = [stores[0].parent / f"{name}.h5" for name in arguments]
    with pytest.raises(InputError, match=sentence):
        pipeline.relabel(paths, tmp_path / "run", settings(stores, recipe=tmp_path / "r.toml", epochs=1))
    assert not (tmp_path / "run" / "refined.h5").exists()
    assert not (tmp_path / "run" / "run.json").exists()


def test_the_command_says_that_it_starts_from_scratch_and_where_the_result_is(stores, tmp_path):
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in FAST.items() if k not in {"pretrained", "epochs"}]
    recipe = stores[0].parent / "recipe.toml"
    command = ("relabel", *stores, "-o", tmp_path / "run", "--recipe", recipe, "--epochs", 1, *flags)
    ran = cytolite(*command)
    assert ran.code == 0
    assert "started from scratch" in ran.err
    assert "training epithelium" in ran.err
    assert "| cell type |" in ran.out
    assert "given a finer type" in ran.out
    assert "already there" in cytolite(*command).out
    flags[0] = "--architecture=resnet5o"
    assert "Did you mean 'resnet5" in cytolite(*command[:4], "-o", tmp_path / "x", *command[6:8], *flags).sentence()
    assert not (tmp_path / "x").exists()
