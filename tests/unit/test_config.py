"""Settings: what is given wins over the file, the file over the defaults; every wrong value is one sentence."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from cytolite.config import SegmentSettings, make_settings
from cytolite.errors import InputError


def complaint(given: dict, config: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        make_settings(SegmentSettings, given, config)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def test_given_wins_over_file_wins_over_default(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('[segment]\nmpp = 0.5\ntile = 512\ntissue = "all"\n')
    settings = make_settings(SegmentSettings, {"tile": 256}, file)
    assert (settings.tile, settings.mpp, settings.tissue, settings.batch) == (256, 0.5, "all", 1)


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        make_settings(SegmentSettings, {}).mpp = 1.0


@pytest.mark.parametrize("mpp", [0.05, 0.25, 5])
def test_resolutions_of_microscopes_are_taken(mpp):
    assert make_settings(SegmentSettings, {"mpp": mpp}).mpp == mpp


@pytest.mark.parametrize("mpp", [0.0499, 5.01, 352.86, 0, -0.5, float("nan"), float("inf")])
def test_absurd_resolution(mpp):
    message = complaint({"mpp": mpp})
    assert message.startswith("mpp = ")
    assert "0.05 to 5 µm per pixel" in message


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"tile": 10}, ["tile = 10", "64 to 16384"]),
        ({"halo": -1}, ["halo = -1", "0 to 1024"]),
        ({"batch": 0}, ["batch = 0", "1 to 256"]),
        ({"workers": 1000}, ["workers = 1000", "1 to 256"]),
        ({"tile": "big"}, ["tile = big", "integer"]),
        ({"device": "gpu"}, ["device = gpu", "'cpu' or 'cuda'"]),
        ({"tissue": "some"}, ["tissue = some", "'auto' or 'all'"]),
        ({"tiel": 512}, ["'tiel'", "Did you mean 'tile'?"]),
    ],
)
def test_wrong_value_says_what_was_given_and_what_is_allowed(given, parts):
    message = complaint(given)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("[segment]\ntiel = 5\n", ["'tiel'", "Did you mean 'tile'?"]),
        ("[segmnt]\ntile = 512\n", ["'segmnt'", "Did you mean 'segment'?"]),
        ("tile = 512\n", ["'tile'", "[segment]"]),
        ("segment = 3\n", ["'segment'", "[segment]"]),
        ("[segment\n", ["not valid TOML"]),
        ("[segment]\nmpp = 352.86\n", ["352.86", "0.05 to 5"]),
    ],
)
def test_wrong_file(tmp_path, content, parts):
    file = tmp_path / "settings.toml"
    file.write_text(content)
    message = complaint({}, file)
    for part in parts:
        assert part in message


def test_file_that_is_not_text_or_not_there(tmp_path):
    assert "cannot be read" in complaint({}, tmp_path / "missing.toml")
    assert "cannot be read" in complaint({}, tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "no whole UTF-16 text" in complaint({}, binary)


def test_an_empty_file_leaves_the_defaults(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("")
    assert make_settings(SegmentSettings, {}, file) == SegmentSettings()
