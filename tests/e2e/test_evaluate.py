"""`cytolite evaluate` from label folders to a report: what is written, what agrees, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import cytolite, finished
from cytolite.evaluation.table import read_counts
from cytolite.metrics.bootstrap import score
from disturb import disturbed
from fakes import random_nuclei

NAMES = '1 = "neoplastic"\n2 = "lymphocyte"\n3 = "connective"\n4 = "dead"\n5 = "epithelial"\n'


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Six images with a truth, a prediction with faults, and one that is better."""
    root = tmp_path_factory.mktemp("evaluate")
    rows = ["image,tissue,patient,fold"]
    for i in range(6):
        instances, types = random_nuclei(np.random.default_rng(i), (160, 160), 40)
        types = np.minimum(types, 5)[instances]
        worse = disturbed(instances, types)
        better = (instances, np.where(types == 5, 1, types))
        for name, (a, b) in {"truth": (instances, types), "worse": worse, "better": better}.items():
            for kind, array in (("inst", a.astype(np.uint16)), ("type", b.astype(np.uint8))):
                (root / name / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / name / kind / f"{i}.png")
        rows.append(f"{i},{'colon' if i % 2 else 'lung'},p{i // 2},{i % 3 + 1}")
    (root / "types.toml").write_text(NAMES)
    (root / "images.csv").write_text("\n".join(rows) + "\n")
    return root


def run(folders: Path, *more: object, out: str = "report", charts: bool = False):
    """Run the command; to draw charts takes longer than all else that it does."""
    return cytolite(
        "evaluate", "--truth", "truth", "-o", out, "--types", "types.toml", "--images", "images.csv",
        "--resamples", 200, *more, cwd=folders, without=() if charts else ("matplotlib",),
    )  # fmt: skip


def test_a_report_is_written_and_its_numbers_are_those_of_the_table(folders):
    done = run(folders, "--predicted", "worse", "--by", "tissue", "--page", "scores.md", charts=True)
    assert done.code == 0, done.err
    assert "bpq_image" in done.out
    assert "not for diagnosis" in done.out
    report = json.loads((folders / "report" / "report.json").read_text())
    counts = read_counts(folders / "report" / "counts.parquet")
    for s in score(counts, resamples=200):
        if s.defined:
            entry = report["overall"]["scores"][s.metric][s.aggregation][s.type]
            assert (entry["value"], entry["n"]) == (pytest.approx(s.value), s.n)
            assert entry["low"] == (None if np.isnan(s.low) else pytest.approx(s.low))
    assert set(report["groups"]["tissue"]) == {"colon", "lung"}
    assert report["groups"]["tissue"]["colon"]["images"] == 3
    assert {"mpq", "bpq"} <= {m for m, by in report["overall"]["scores"].items() if "tissue" in by}
    page = (folders / "report" / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["']?https?:""", page)  # opens offline
    for name in ("r2_counts", "pq_pooled", "sq_pooled", "dq_pooled"):
        assert name in page
    assert "cytolite evaluate --truth truth --predicted worse" in (folders / "scores.md").read_text()
    pytest.importorskip("matplotlib")
    plots = {path.name for path in (folders / "report" / "plots").iterdir()}
    assert {"all-images-pq.png", "all-images-confusion.png", "colon-counts.png"} <= plots
    assert page.count("<svg") == len(plots)


def test_two_predictions_are_compared_on_the_same_images(folders):
    done = run(folders, "--predicted", "better", "--baseline", "worse", "--quiet", out="paired")
    assert (done.code, done.out) == (0, "")
    report = json.loads((folders / "paired" / "report.json").read_text())["overall"]
    ours, theirs, difference = (report[k]["bpq"]["image"]["all"] for k in ("scores", "baseline", "difference"))
    assert difference["value"] == pytest.approx(ours["value"] - theirs["value"])
    assert 0 < difference["low"] < difference["high"]
    assert "Compared with the baseline" in (folders / "paired" / "report.html").read_text()


def test_patients_are_resampled_whole(folders):
    assert run(folders, "--predicted", "worse", "--group", "patient", "--quiet", out="patients").code == 0
    report = json.loads((folders / "patients" / "report.json").read_text())
    wanted = {"level": 0.95, "group": "patient", "resamples": 200, "seed": 0, "least_groups": 5, "rough_below": 20}
    assert report["bootstrap"] == wanted


def test_a_protocol_scores_each_split_on_its_fold(folders):
    three = ("--predicted", "worse") * 3
    done = run(folders, *three, "--protocol", "official", "--quiet", out="folds")
    assert done.code == 0, done.err
    report = json.loads((folders / "folds" / "report.json").read_text())
    splits = report["groups"]["split"]
    assert list(splits) == ["split 1, fold 3", "split 2, fold 3", "split 3, fold 1"]
    values = [s["scores"]["bpq"]["image"]["all"]["value"] for s in splits.values()]
    assert values[0] == values[1]
    assert report["overall"]["scores"]["bpq"]["image"]["all"]["value"] == pytest.approx(np.mean(values))
    assert "fold 3 is tested twice" in report["about"]["protocol"]
    assert "3 are needed" in run(folders, "--predicted", "worse", "--protocol", "rotation", out="x").sentence()


def test_a_report_that_is_there_is_kept(folders):
    assert run(folders, "--predicted", "worse", "--quiet", out="kept").code == 0
    assert "--overwrite replaces it" in run(folders, "--predicted", "worse", out="kept").sentence()
    assert run(folders, "--predicted", "better", "--overwrite", "--quiet", out="kept").code == 0
    assert "is no report" in run(folders, "--predicted", "worse", "--overwrite", out="truth").sentence()


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--predicted", "nothing"), "holds no predictions"),
        ((), "Give either --predicted"),
        (("--predicted", "worse", "--model", "nuclei-light"), "Give either --predicted"),
        (("--predicted", "worse", "--by", "tisue"), "no column 'tisue'"),
        (("--predicted", "worse", "--group", "nobody"), "no column 'nobody'"),
        (("--predicted", "worse", "--protocol", "oficial"), "Did you mean 'official'"),
        (("--model", "nuclei-lihgt"), "Did you mean 'nuclei-light'"),
        (("--model", "nuclei-light", "--mpp", "0.5", "--quiet"), "has no image to predict on"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(folders, more, part):
    before = finished(folders)
    assert part in run(folders, *more, out="none").sentence()
    assert finished(folders) == before
    assert not list(folders.glob(".none*"))
