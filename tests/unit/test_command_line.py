"""Settings written as options are read by the real command line as the same settings."""

import shlex
from pathlib import Path

import pytest

from cytolite import pipeline
from cytolite.__main__ import main
from cytolite.config import DistillSettings, EvaluateSettings, RelabelSettings
from cytolite.errors import InputError
from cytolite.evaluation import run as scoring
from cytolite.evaluation.run import Contest, write_page
from cytolite.provenance import options

GIVEN = [
    DistillSettings(),
    DistillSettings(pretrained=False, frozen=True, patience=3, temperature=1.0, soft_on="all"),
    DistillSettings(teachers=("one", "two"), teacher_scales=(0.8, 1.25), teacher_tta=8),
    DistillSettings(source_shares={"consep": 0.5, "my_labels": 0.5}),
    DistillSettings(cache=Path("soft_targets"), decoder="wide"),
    DistillSettings(teachers=("my teacher", "it's another"), source_shares={"a b": 1.0}),
    RelabelSettings(overwrite=True, architecture="resnet18", min_probability=0.9, recipe=Path("recipe.toml")),
]


@pytest.mark.parametrize("settings", GIVEN, ids=lambda settings: " ".join(options(settings)) or "none")
def test_options_give_the_same_settings(settings, monkeypatch, tmp_path):
    class ReadError(Exception):
        pass

    def read(*given, **named):
        found.extend(value for value in [*given, *named.values()] if isinstance(value, type(settings)))
        raise ReadError

    found = []
    verb = type(settings).__name__.removesuffix("Settings").lower()
    monkeypatch.setattr(pipeline, verb, read)
    words = [word for text in options(settings) for word in shlex.split(text)]
    with pytest.raises(ReadError):
        main([verb, *(["teacher"] if verb == "distill" else []), "a.h5", "-o", str(tmp_path / "out"), *words])
    assert found == [settings]


def test_where_things_lie_is_not_told():
    settings = DistillSettings(
        weights=Path("/data/mine/w.pth"), start="/home/me/runs/first", teachers=("/t/one", "two")
    )
    found = options(settings, places=("start", "teachers"))
    assert found == ["--weights w.pth", "--start first", "--teachers one", "--teachers two"]
    assert options(settings, without=("weights", "start", "teachers")) == []


EVALUATED = [
    (Contest([Path("a b/truth.h5")], model="nuclei-light"), EvaluateSettings(pictures=False)),
    (
        Contest([Path("one.h5"), Path("it's two")], [Path("$HOME/predicted; x")], baseline="other model"),
        EvaluateSettings(by=("tissue", "two words"), group="patient", held_back=0.3, seed=4, mpp=0.25, tta=8),
    ),
    (Contest([Path("t")], [Path("p")]), EvaluateSettings(images=Path("/data/my images.csv"), types=Path("t y.toml"))),
]


@pytest.mark.parametrize(("contest", "settings"), EVALUATED, ids=["no pictures", "quotes", "files"])
def test_the_command_on_a_page_of_scores_is_the_one_that_was_given(contest, settings, monkeypatch, tmp_path):
    page, out = tmp_path / "my page.md", tmp_path / "my report"
    monkeypatch.setattr(scoring, "_about", lambda *_: {"predicted": "x"})
    monkeypatch.setattr(scoring.page, "overall_table", lambda *_: "")
    write_page(page, contest, settings, [], out)
    text = page.read_text(encoding="utf-8")
    line = text.split("```bash\n")[1].split("\n```")[0]
    asked = {}

    def evaluate(truth, output, given, predicted, **named):
        asked.update(truth=list(truth), output=output, settings=given, predicted=list(predicted), **named)
        raise InputError("Seen.")

    monkeypatch.setattr(pipeline, "evaluate", evaluate)
    program, *words = shlex.split(line)
    assert program == "cytolite"
    with pytest.raises(SystemExit):
        main(words)
    assert asked["settings"] == settings
    assert (asked["truth"], asked["predicted"]) == (list(contest.truths), list(contest.predicted))
    assert (asked["model"], asked["baseline"]) == (contest.model, contest.baseline)
    assert (asked["output"], asked["page"]) == (out, page)
    assert "](" not in text  # a link would lead nowhere: the page may lie anywhere
