"""The command: exit codes, one sentence per error, results on stdout and everything else on stderr."""

import sys
from pathlib import Path

import pytest

import cytolite
from cytolite import cli, pipeline
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
        def segment_slides(slides, output, settings, display, report):
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
        ("segmet a -o out", 'Did you mean "segment"'),
        ("segment a", "--output"),
        ("segment a -o out --tiel 512", "Did you mean --tile?"),
        ("segment a -o out --tile big", "tile = big"),
        ("train a -o out --steps-per-epoch many", "steps_per_epoch = many"),
        ("segment a -o out --tile 3", "64 to 16384"),
        ("segment a -o out --mpp 352.86", "0.05 to 5 um per pixel"),
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
    assert out == "out/a: 12,345 nuclei in 2.00 mm2, 5.0 s, 2.5 s/mm2\nFor research use only; not for diagnosis.\n"
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
    assert (code, err.count("\n")) == (1, 1)
    assert "Did you mean 'tile'?" in err


def test_no_slide_at_all(run):
    code, out, err = run("segment", "-o", "out")
    assert (code, out) == (1, "")
    assert err == "error: No slide was given; name at least one file.\n"


def test_interrupt(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "segment_slides", interrupted)
    code, out, err = run("segment", "a", "-o", "out")
    assert (code, out) == (130, "")
    assert err == "error: Interrupted; run the same command again to go on.\n"


def test_an_error_of_the_whole_run(run, monkeypatch):
    def fails(*_):
        raise InputError("No.")

    monkeypatch.setattr(pipeline, "segment_slides", fails)
    assert run("segment", "a", "-o", "out") == (1, "", "error: No.\n")


def test_a_store_without_the_extra_says_how_to_get_it(run, tmp_path, monkeypatch):
    (tmp_path / "x.h5").write_bytes(b"")
    monkeypatch.delitem(sys.modules, "cytolite.datasets.store", raising=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    code, out, err = run("evaluate", "--truth", tmp_path / "x.h5", "--predicted", tmp_path, "-o", tmp_path / "out")
    assert (code, out) == (1, "")
    assert err == "error: This needs h5py, which is not installed: pip install 'cytolite[train]'.\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("--resamples 0", "1 to 100000"),
        ("--held-back 1.5", "held_back = 1.5 is out of range; a share lies between 0 and 1"),
        ("--mpp 352.86", "0.05 to 5 um per pixel"),
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
    assert (code, out, err.count("\n")) == (1, "", 1)
