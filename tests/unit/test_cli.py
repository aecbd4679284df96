"""The command: exit codes, one sentence per error, results on stdout and everything else on stderr."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

import cytolite
from cytolite import cli, pipeline
from cytolite.bundle import embedded_names, load_bundle
from cytolite.errors import InputError
from cytolite.segmentation.run import Outcome


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run


@pytest.fixture
def pretend(monkeypatch):
    """Replace the work by outcomes that are known, and return what the command asked for."""
    asked = {}

    def pretend(outcomes: list[Outcome]) -> dict:
        def segment_slides(slides, output, settings, display, report, **more):
            asked.update(slides=slides, output=output, settings=settings)
            for outcome in outcomes:
                report(outcome)
            return outcomes

        monkeypatch.setattr(pipeline, "segment_slides", segment_slides)
        return asked

    return pretend


DONE = Outcome(Path("a.svs"), Path("out/a"), "done", cells=12345, tissue_mm2=2.0, seconds=5.0)
SKIPPED = Outcome(Path("b.svs"), Path("out/b"), "skipped")
FAILED = Outcome(Path("c.svs"), Path("out/c"), "failed", "c.svs is no slide.")


def test_version_and_help(run):
    assert run("--version") == (0, f"{cytolite.__version__}\n", "")
    code, out, _ = run("--help")
    assert code == 0
    assert "segment" in out
    assert "not for diagnosis" in out
    code, out, _ = run("segment", "--help")
    assert code == 0
    for flag in ("--output", "-o", "--mpp", "--model", "--tissue", "--roi", "--tile", "--device", "--batch",
                 "--workers", "--overwrite", "--quiet", "--config"):  # fmt: skip
        assert flag in out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("segmet a -o out", "Did you mean 'segment'?"),
        ("segment a", "--output"),
        ("segment a -o out --tiel 512", "Did you mean --tile?"),
        ("segment a -o out --tile big", "tile = big"),
        ("train a -o out --steps-per-epoch many", "steps_per_epoch = many"),
        ("segment a -o out --tile 3", "64 to 16384"),
        ("segment a -o out --mpp 352.86", "0.05 to 5 µm per pixel"),
        ("segment a -o out --device gpu", "'cpu' or 'cuda'"),
        ("segment a -o out --overwrite=perhaps", "overwrite"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_2(run, arguments, part):
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert part in err


def test_results_on_stdout(run, pretend):
    asked = pretend([DONE])
    code, out, err = run("segment", "a.svs", "b.svs", "-o", "out", "--tile", 512, "c.svs")
    assert (code, err) == (0, "")
    assert (
        out
        == "out/a: 12,345 nuclei in 2.00 mm² of tissue, 5.0 s, 2.5 s/mm²\nFor research use only; not for diagnosis.\n"
    )
    assert list(asked["slides"]) == ["a.svs", "b.svs", "c.svs"]
    assert asked["output"] == Path("out")
    assert asked["settings"].tile == 512


def test_a_skipped_slide_is_a_line_and_no_failure(run, pretend):
    pretend([SKIPPED])
    code, out, err = run("segment", "b.svs", "-o", "out")
    assert (code, err) == (0, "")
    assert out.startswith("out/b: already there, skipped")


def test_quiet_prints_errors_and_warnings_only(run, pretend):
    pretend([DONE, SKIPPED])
    assert run("segment", "a.svs", "b.svs", "-o", "out", "--quiet") == (0, "", "")
    pretend([Outcome(Path("a.svs"), Path("out/a"), "done", warnings=("blank.",))])
    assert run("segment", "a.svs", "-o", "out", "--quiet") == (0, "", "warning: a.svs: blank.\n")


def test_one_slide_that_fails_is_one_sentence(run, pretend):
    pretend([FAILED])
    assert run("segment", "c.svs", "-o", "out") == (1, "", "error: c.svs is no slide.\n")


def test_failures_of_a_batch_end_in_a_table(run, pretend):
    pretend([DONE, FAILED, SKIPPED])
    code, out, err = run("segment", "a.svs", "c.svs", "b.svs", "-o", "out")
    assert code == 1
    assert "out/a: 12,345" in out
    assert "1 of 3 slides failed" in err
    assert err.count("c.svs is no slide.") == 2  # when it happened, and in the table


def test_settings_come_from_the_file_and_flags_win(run, pretend, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[segment]\ntile = 256\nmpp = 0.5\nquiet = true\n")
    asked = pretend([DONE])
    assert run("segment", "a", "-o", "out", "--config", file, "--tile", 512)[0] == 0
    assert (asked["settings"].tile, asked["settings"].mpp, asked["settings"].quiet) == (512, 0.5, True)
    run("segment", "a", "-o", "out", "--config", file, "--no-quiet")
    assert asked["settings"].quiet is False
    file.write_text("[segment]\ntiel = 256\n")
    code, _, err = run("segment", "a", "-o", "out", "--config", file)
    assert (code, err.count("\n")) == (2, 1)
    assert "Did you mean 'tile'?" in err


def test_no_slide_at_all(run):
    code, out, err = run("segment", "-o", "out")
    assert (code, out) == (2, "")
    assert err == "error: No slide was given; name at least one file.\n"


def test_interrupt(run, monkeypatch):
    def interrupted(*_, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "segment_slides", interrupted)
    code, out, err = run("segment", "a", "-o", "out")
    assert (code, out) == (130, "")
    assert err == "error: Interrupted; run the same command again to go on.\n"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (getattr(signal, "SIGHUP", 1), 129)])
def test_a_signal_ends_a_run_as_ctrl_c_does(run, monkeypatch, number, code):
    ends = []

    def signalled(*_, **more):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)  # a supervisor's second, while the run ends: `timeout` sends two
            ends.append("whole")

    monkeypatch.setattr(pipeline, "segment_slides", signalled)
    before = signal.getsignal(number)
    assert run("segment", "a", "-o", "out") == (code, "", "error: Interrupted; run the same command again to go on.\n")
    assert ends == ["whole"]
    assert signal.getsignal(number) == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signals")
def test_nohup_is_respected(run, monkeypatch):
    monkeypatch.setattr(pipeline, "segment_slides", lambda *_, **more: os.kill(os.getpid(), signal.SIGHUP) or [])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("segment", "a", "-o", "out") == (0, "", "")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_of_the_whole_run(run, monkeypatch):
    def fails(*_, **more):
        raise InputError("No.")

    monkeypatch.setattr(pipeline, "segment_slides", fails)
    assert run("segment", "a", "-o", "out") == (1, "", "error: No.\n")


def test_a_store_without_the_extra_says_how_to_get_it(run, tmp_path, monkeypatch):
    (tmp_path / "x.h5").write_bytes(b"")
    monkeypatch.delitem(sys.modules, "cytolite.datasets.store", raising=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    code, out, err = run("evaluate", "--truth", tmp_path / "x.h5", "--predicted", tmp_path, "-o", tmp_path / "out")
    assert (code, out) == (1, "")
    assert err.startswith("error: This needs h5py, which is not installed; it comes with the extra 'train', ")
    assert "pip install '.[train]'" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("--resamples 0", "1 to 100000"),
        ("--held-back 1.5", "held_back = 1.5 is out of range; a share lies between 0 and 1"),
        ("--mpp 352.86", "0.05 to 5 µm per pixel"),
        ("--basline x", "Did you mean --baseline?"),
    ],
)
def test_wrong_use_of_evaluate(run, arguments, part):
    code, out, err = run("evaluate", "--truth", "t", "--predicted", "p", "-o", "out", *arguments.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert part in err


def test_inspect(run, tmp_path):
    from fakes import fake_bundle

    bundle = fake_bundle(tmp_path)
    code, out, err = run("inspect", bundle.path)
    assert (code, err) == (0, "")
    assert bundle.sha256 in out
    assert "# fake" in out
    code, out, err = run("inspect", tmp_path / "nothing")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_an_unknown_verb_is_told_all_verbs(run):
    known = [name for name in cli.app if not name.startswith("-")]
    for given in ("bla", "segmet", "SEGMENT"):
        code, _, err = run(given, "a")
        assert (code, err.count("\n")) == (2, 1)
        assert set(known) <= set(re.findall(r"[\w-]+", err.split("known are")[1]))
    code, _, err = run("qupath", "bla")
    assert code == 2
    assert "known are install, uninstall, run, project." in err


WRONG = {
    "no slide": "segment -o {out}",
    "a slide that is not there": "segment {no}.svs -o {out}",
    "two that are not there": "segment {no}.svs {no}.tif -o {out}",
    "a pattern without a match": "segment {here}/*.ndpi -o {out}",
    "a folder as a slide": "segment {here} -o {out}",
    "no model of the name": "segment {image} -o {out} --model nuclei-lihgt",
    "no settings file": "segment {image} -o {out} --config {no}.toml",
    "a settings file that is none": "segment {image} -o {out} --config {image}",
    "an unknown table of settings": "segment {image} -o {out} --config {table}",
    "an unknown setting": "segment {image} -o {out} --config {name}",
    "a setting out of range": "segment {image} -o {out} --config {range}",
    "a tile too small": "segment {image} -o {out} --tile 3",
    "tta of no group": "segment {image} -o {out} --tta 3",
    "no regions": "segment {image} -o {out} --roi {no}.geojson",
    "no prediction": "evaluate --truth {truth} -o {out}",
    "two predictions": "evaluate --truth {truth} --predicted a --model nuclei-light -o {out}",
    "no truth": "evaluate --truth {no} --model nuclei-light -o {out}",
    "a prediction that is not there": "evaluate --truth {truth} --predicted {no} -o {out}",
    "no model to evaluate": "evaluate --truth {truth} --model {no} -o {out}",
    "no protocol of the name": "evaluate --truth {truth} --model nuclei-light --protocol papr -o {out}",
    "no column of the name": "evaluate --truth {truth} --model nuclei-light --by organ -o {out}",
    "no bundle": "inspect {no}",
    "a sheet of a bundle": "inspect nuclei-light -o {out}.png",
    "nothing to convert": "convert {no}.parquet {out}.csv --quiet",
    "an unknown format": "convert {image} {out}.xyz --quiet",
    "a class without a type": "convert {image} {out}.csv --class Tumor --quiet",
    "a class of no type": "convert {image} {out}.csv --class Tumor=tumour --quiet",
    "no microscope": "convert {image} {out}.csv --mpp 99 --quiet",
    "an unknown data set": "prepare panuke {here} -o {out}.h5",
    "no data": "prepare consep {no} -o {out}.h5",
    "a host for all": "serve --host 0.0.0.0",
    "an allowed folder that is not there": "serve --allow {no}",
    "no user folder of QuPath": "qupath install --user-dir {no}",
    "nothing for a project": "qupath project {no}.svs -o {out}",
    "an option that export's kind has not": "export {no} -o {out} --kind int8 --truth a.h5",
    "an unknown verb": "segmnt {image} -o {out}",
    "an unknown option": "segment {image} -o {out} --modle x",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_command_is_one_sentence_exit_2_and_nothing_done(run, tmp_path, monkeypatch, what):
    monkeypatch.setenv("CYTOLITE_HOME", str(tmp_path / "home"))
    from PIL import Image

    here = tmp_path / "here"
    (here / "truth" / "inst").mkdir(parents=True)
    Image.new("L", (64, 64)).save(here / "truth" / "inst" / "a.png")
    Image.new("RGB", (64, 64)).save(here / "image.png")
    for name, text in (("table", "[segmnt]\n"), ("name", "[segment]\ntiel = 3\n"), ("range", "[segment]\nbatch = 0\n")):
        (here / f"{name}.toml").write_text(text)
    places = {"out": tmp_path / "out", "no": tmp_path / "nothing", "here": here, "image": here / "image.png"}
    places |= {"truth": here / "truth", **{name: here / f"{name}.toml" for name in ("table", "name", "range")}}
    before = sorted(here.rglob("*"))
    code, out, err = run(*(word.format(**places) for word in WRONG[what].split()))
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["here"]
    assert sorted(here.rglob("*")) == before


def test_a_file_that_cannot_be_used_is_no_wrong_command(run, tmp_path):
    (tmp_path / "a.svs").write_bytes(b"no slide")
    (tmp_path / "b.parquet").write_bytes(b"no table")
    assert run("segment", tmp_path / "a.svs", "-o", tmp_path / "out")[0] == 1
    # One of two is there: it is worked on, and the other is a failure of the batch.
    assert run("segment", tmp_path / "a.svs", tmp_path / "no.svs", "-o", tmp_path / "out")[0] == 1
    assert run("convert", tmp_path / "b.parquet", tmp_path / "b.csv")[0] == 1


def test_a_folder_is_told_its_slides(run, tmp_path):
    assert f"'{tmp_path}/*'" in run("segment", tmp_path, "-o", tmp_path / "out")[2]


def test_help_has_no_option_that_is_always_refused(run):
    assert "--roi" in run("segment", "--help")[1]
    assert "--roi" not in run("qupath", "run", "--help")[1]
    for verb in ("convert", "prepare", "export", "serve", "evaluate"):
        assert "--empty" not in run(verb, "--help")[1]


def test_models_are_named_in_help_and_listed(run):
    names = embedded_names()
    for verb in ("segment", "evaluate", "serve"):
        assert all(name in run(verb, "--help")[1] for name in names)
    code, out, err = run("models")
    assert (code, err) == (0, "")
    assert "not for diagnosis" in out
    code, listed, _ = run("models", "--json")
    found = json.loads(listed)
    assert sorted(m["name"] for m in found) == names
    assert [m["default"] for m in found] == [True, False, False, False]
    assert found[0]["name"] == load_bundle().spec.name
    for m in found:
        spec = load_bundle(m["name"]).spec
        assert (m["version"], m["parameters"], m["licence"]) == (spec.version, spec.parameters, spec.licence)
        assert m["size_bytes"] == sum(p.stat().st_size for p in Path(m["path"]).iterdir())
        assert m["purpose"] in out.replace("\n", " ") or len(m["purpose"]) > 40
        assert f"{spec.parameters:,}" in out


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("bundle", "--others x"),
        ("bundle", "--duplicates x.csv"),
        ("torchscript", "--truth x.h5"),
        ("torchscript", "--model-version 2"),
        ("float16", "--model-version 2"),
        ("int8", "--others x"),
        ("ensemble", "--truth x.h5"),
    ],
)
def test_export_refuses_what_its_kind_does_not_use(run, kind, option):
    code, out, err = run("export", "nuclei-light", "-o", "out", "--kind", kind, *option.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {option.split()[0]} is for --kind ")


def test_the_difference_from_a_baseline_is_in_the_terminal(run, monkeypatch):
    from cytolite.evaluation.report import Section
    from cytolite.metrics.bootstrap import Score

    ours, theirs, change = (
        [Score(value, low, high, 9, "bpq", "image", "all")]
        for value, low, high in ((0.6, 0.5, 0.7), (0.4, 0.3, 0.5), (0.2, 0.1, 0.3))
    )
    sections = [Section("", "", [1] * 9, ours, theirs, change), Section("source", "b", [1] * 3, ours, theirs, [])]
    monkeypatch.setattr(pipeline, "evaluate", lambda *_, **__: sections)
    code, out, _ = run("evaluate", "--truth", "t", "--predicted", "p", "--baseline", "q", "-o", "out")
    assert code == 0
    [head, row] = [line.split() for line in out.splitlines() if "baseline" in line or "bpq_image" in line][:2]
    assert head[-3:] == ["this", "baseline", "difference"]
    assert "0.600 (0.500 to 0.700) 0.400 (0.300 to 0.500) +0.200 (+0.100 to +0.300)" in " ".join(row)
