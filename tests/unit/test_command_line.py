"""Settings written as options are read by the real command line as the same settings."""

from pathlib import Path

import pytest

from cytolite import pipeline
from cytolite.__main__ import main
from cytolite.config import DistillSettings, RelabelSettings
from cytolite.provenance import options

GIVEN = [
    DistillSettings(),
    DistillSettings(pretrained=False, frozen=True, patience=3, temperature=1.0, soft_on="all"),
    DistillSettings(teachers=("one", "two"), teacher_scales=(0.8, 1.25), teacher_turns=8),
    DistillSettings(source_shares={"consep": 0.5, "my_labels": 0.5}),
    DistillSettings(cache=Path("answers"), decoder="wide"),
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
    words = [word for text in options(settings) for word in text.split()]
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
