"""Which slides, and which folder each one's results go to: stable from run to run, never shared, never lost."""

import json
from pathlib import Path

import pytest

from cytolite.config import SegmentSettings
from cytolite.errors import InputError, OutputError, UsageError
from cytolite.interop.result_folder import RUN_FILE
from cytolite.provenance import fingerprint
from cytolite.segmentation.results import check_free, find_slides, is_result, prepare_output, result_folders
from cytolite.segmentation.slide_list import read_slide_list


def make(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content or str(path))
    return path


def finish(slide: Path, folder: Path) -> None:
    """Leave what a finished run leaves of its identity."""
    folder.mkdir(parents=True)
    (folder / RUN_FILE).write_text(json.dumps({"slide": {"path": str(slide), **fingerprint(slide)}}))


def names(slides: list[Path], output: Path) -> list[str]:
    folders = result_folders(slides, output)
    assert all(folder.parent == output for folder in folders)
    assert len({folder.name.casefold() for folder in folders}) == len(slides)
    return [folder.name for folder in folders]


def test_a_file_named_twice_is_done_once(tmp_path, monkeypatch):
    slide = make(tmp_path / "a.png")
    link = tmp_path / "link.png"
    link.symlink_to(slide)
    monkeypatch.chdir(tmp_path)
    assert find_slides([slide, "a.png", "./a.png", str(tmp_path / "*.png"), link]) == [slide]


def test_patterns_are_expanded_in_order(tmp_path):
    b, a, _ = make(tmp_path / "b.svs"), make(tmp_path / "a.svs"), make(tmp_path / "c.txt")
    assert find_slides([tmp_path / "*.svs"]) == [a, b]


def test_a_name_with_brackets_that_exists_is_no_pattern(tmp_path):
    slide = make(tmp_path / "a[1].png")
    assert find_slides([slide]) == [slide]


@pytest.mark.parametrize("name", ["s3://bucket/a.svs", "https://host/a.tif"])
def test_an_address_is_told_from_a_path(tmp_path, name):
    with pytest.raises(UsageError, match=f"{name} is an address"):
        find_slides([name, tmp_path])
    (tmp_path / "list.csv").write_text(f"path\n{name}\n")
    with pytest.raises(UsageError, match=f"line 2: {name} is an address"):
        read_slide_list(tmp_path / "list.csv", SegmentSettings())


def test_pattern_without_a_match_and_no_slide_at_all(tmp_path):
    with pytest.raises(InputError, match=r"No file matches .*\*\.ndpi"):
        find_slides([tmp_path / "*.ndpi"])
    with pytest.raises(InputError, match="No slide"):
        find_slides([])


def test_a_missing_file_is_left_to_whoever_opens_it(tmp_path):
    (tmp_path / "a.svs").touch()
    given = [tmp_path / "no.svs", tmp_path / "a.svs"]
    assert find_slides(given) == given


def test_nothing_that_is_there_is_a_wrong_command(tmp_path):
    with pytest.raises(UsageError, match=r"no\.svs does not exist"):
        find_slides([tmp_path / "no.svs", tmp_path / "no.tif"])
    with pytest.raises(UsageError, match=r"is a directory: name its slides, '.*/\*'"):
        find_slides([tmp_path])


def test_stem_where_it_is_enough(tmp_path):
    assert names([tmp_path / "a.png", tmp_path / "b.x.tif"], tmp_path / "out") == ["a", "b.x"]


def test_one_stem_full_names(tmp_path):
    assert names([tmp_path / "a.png", tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out") == [
        "a.png",
        "a.tif",
        "b",
    ]


def test_one_name_with_the_folder_before_it(tmp_path):
    slides = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png", tmp_path / "y" / "a.tif"]
    assert names(slides, tmp_path / "out") == ["x-a.png", "y-a.png", "a.tif"]


def test_one_name_and_one_folder_name_a_hash(tmp_path):
    slides = [tmp_path / "p" / "x" / "a.png", tmp_path / "q" / "x" / "a.png"]
    first = names(slides, tmp_path / "out")
    assert all(name.startswith("a.png-") for name in first)
    assert names(slides[::-1], tmp_path / "out") == first[::-1]


def test_names_that_differ_in_case_only_do_not_share_a_folder(tmp_path):
    assert names([tmp_path / "A.png", tmp_path / "a.tif"], tmp_path / "out") == ["A.png", "a.tif"]


def test_a_name_made_longer_does_not_hit_another_slide(tmp_path):
    # The stem of the third is the full name of the first.
    slides = [tmp_path / "a.png", tmp_path / "a.tif", tmp_path / "a.png.svs"]
    assert len(set(names(slides, tmp_path / "out"))) == 3


def test_a_batch_run_again_finds_its_results(tmp_path):
    slides = [make(tmp_path / name) for name in ("x/a.png", "y/a.png", "a.tif", "b.tif")]
    folders = result_folders(slides, tmp_path / "out")
    for slide, folder in zip(slides, folders, strict=True):
        finish(slide, folder)
    assert result_folders(slides, tmp_path / "out") == folders
    for slide, folder in zip(slides, folders, strict=True):  # and in parts, in any order
        assert result_folders([slide], tmp_path / "out") == [folder]
    assert result_folders(slides[::-1], tmp_path / "out") == folders[::-1]


def test_another_slide_of_the_same_stem_does_not_take_a_result_for_its_own(tmp_path):
    first, second = make(tmp_path / "a.png"), make(tmp_path / "a.tif")
    finish(first, tmp_path / "out" / "a")
    assert names([second], tmp_path / "out") == ["a.tif"]
    assert names([first], tmp_path / "out") == ["a"]
    assert names([first, second], tmp_path / "out") == ["a", "a.tif"]


def test_a_slide_that_was_moved_is_still_the_same(tmp_path):
    slide = make(tmp_path / "a.png", "same")
    finish(slide, tmp_path / "out" / "a")
    moved = slide.rename(make(tmp_path / "elsewhere" / "a.png"))
    assert names([moved], tmp_path / "out") == ["a"]


def test_a_folder_without_a_record_is_no_result(tmp_path):
    (tmp_path / "a").mkdir()
    assert not is_result(tmp_path / "a")
    (tmp_path / "a" / RUN_FILE).write_text("not json")
    assert names([make(tmp_path / "a.png")], tmp_path) == ["a.png"]


def test_a_folder_of_the_users_own_is_not_free(tmp_path):
    slide = make(tmp_path / "a.png")
    check_free(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty")
    finish(slide, tmp_path / "result")
    check_free(tmp_path / "result")
    make(tmp_path / "mine" / "notes.txt")
    for taken in (tmp_path / "mine", slide):
        with pytest.raises(OutputError, match="is no result of cytolite"):
            check_free(taken)


def test_fingerprint_sees_a_change_of_content_and_of_size(tmp_path):
    slide = make(tmp_path / "a.png", "one")
    before = fingerprint(slide)
    assert fingerprint(make(tmp_path / "copy" / "a.png", "one")) == before
    assert fingerprint(make(tmp_path / "a.png", "two")) != before
    assert fingerprint(make(tmp_path / "a.png", "one and more")) != before


def test_output_is_made_and_left_empty(tmp_path):
    prepare_output(tmp_path / "new" / "out")
    assert list((tmp_path / "new" / "out").iterdir()) == []


@pytest.mark.parametrize("below", ["", "out"])
def test_output_that_is_a_file_or_below_one(tmp_path, below):
    file = make(tmp_path / "file")
    with pytest.raises(OutputError, match="name a folder"):
        prepare_output(file / below if below else file)


def test_output_that_cannot_be_written():
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_output(Path("/proc/cytolite"))
