"""Names of version 0.2 work for one version more, each with a line that says what it is called now."""

import json
import logging

import pytest

from cytolite import cli
from cytolite.bundle import load_bundle
from cytolite.config import DistillSettings, SegmentSettings, make_settings
from cytolite.renamed import arguments_of_today


@pytest.mark.parametrize(
    ("given", "today"),
    [
        (["segment", "a.svs", "--turns", "4"], ["segment", "a.svs", "--tta", "4"]),
        (["evaluate", "--turns=8"], ["evaluate", "--tta=8"]),
        (["distill", "t", "--teacher-turns", "8"], ["distill", "t", "--teacher-tta", "8"]),
        (["export", "a", "--kind", "committee"], ["export", "a", "--kind", "ensemble"]),
        (["export", "a", "--kind=committee"], ["export", "a", "--kind=ensemble"]),
    ],
)
def test_old_options_are_those_of_today(given, today, caplog):
    assert arguments_of_today(given) == today
    assert "is called" in caplog.text
    caplog.clear()
    assert arguments_of_today(today) == today
    assert arguments_of_today(["segment", "committee", "turns"]) == ["segment", "committee", "turns"]
    assert caplog.text == ""


def test_the_command_takes_an_old_option(tmp_path, capsys, caplog):
    with pytest.raises(SystemExit) as left:
        cli.main(["segment", str(tmp_path / "none.svs"), "-o", str(tmp_path / "o"), "--turns", "3"])
    assert left.value.code == 2
    assert "--turns is called --tta now" in caplog.text
    assert "tta = 3 is out of range" in capsys.readouterr().err


def test_old_keys_of_a_settings_file_and_of_python_are_read(tmp_path, caplog):
    file = tmp_path / "cytolite.toml"
    file.write_text("[segment]\nturns = 4\n")
    assert make_settings(SegmentSettings, {}, file).tta == 4
    assert make_settings(SegmentSettings, {"turns": 8}, file).tta == 8  # what is given wins, whatever it is called
    assert make_settings(DistillSettings, {"teacher_turns": 8}).teacher_tta == 8
    assert caplog.text.count("turns is called tta now") == 3


def test_the_ensemble_is_found_under_its_old_name(caplog, tmp_path, monkeypatch):
    with caplog.at_level(logging.WARNING):
        assert load_bundle("nuclei-committee-int8") == load_bundle("nuclei-ensemble-int8")
    assert "nuclei-committee-int8 is called nuclei-ensemble-int8 now" in caplog.text
    # A folder of that name is what it is, and no record of it says another.
    caplog.clear()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "nuclei-committee-int8"
    folder.mkdir()
    for file in load_bundle("nuclei-light").path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert load_bundle("nuclei-committee-int8").spec.name == "nuclei-light"
    assert caplog.text == ""


def test_a_run_of_before_goes_on(tmp_path):
    record = pytest.importorskip("cytolite.training.record", reason="needs the extra `train`")
    settings = DistillSettings(teacher_tta=8)
    today = {"verb": "distill", "settings": settings.model_dump(mode="json"), "stores": []}
    before = json.loads(json.dumps(today).replace("teacher_tta", "teacher_turns"))
    assert record.identity(before) == record.identity(today)
