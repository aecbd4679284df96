"""Lists of slides: every row's own settings, and every bad row named."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytolite.config import SegmentSettings
from cytolite.errors import UsageError
from cytolite.provenance import fingerprint
from cytolite.segmentation.slide_list import entries_of, folders_of, read_slide_list

SETTINGS = SegmentSettings(mpp=0.25, tissue="all")


@pytest.fixture
def slides(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_text(name)
    return tmp_path


def write(folder, text, name="list.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_rows_have_settings_of_their_own_and_columns_travel(slides, separator, encoding):
    number = "0,5" if separator != "," else "0.5"
    rows = [["Path", "id", "mpp", "Patient"], ["a.png", "one", number, "Müller"], ["b.png", "", "", "P2"]]
    path = write(slides, "\r\n".join(separator.join(row) for row in rows), encoding=encoding)
    one, two = read_slide_list(path, SETTINGS)
    assert (one.path, one.id, one.settings.mpp, one.columns) == (slides / "a.png", "one", 0.5, {"Patient": "Müller"})
    assert (two.path, two.id, two.settings, two.columns) == (slides / "b.png", "", SETTINGS, {"Patient": "P2"})
    assert one.settings.tissue == "all"


def test_parquet_is_the_same(slides):
    table = pa.table({"path": ["a.png", "b.png"], "mpp": [0.5, None], "grade": [2, 3]})
    pq.write_table(table, slides / "list.parquet")
    one, two = read_slide_list(slides / "list.parquet", SETTINGS)
    assert (one.settings.mpp, two.settings.mpp) == (0.5, 0.25)
    assert (one.columns, two.columns) == ({"grade": "2"}, {"grade": "3"})


def test_all_bad_rows_are_named_with_their_lines(slides):
    path = write(
        slides,
        "path,id,mpp,model,roi\na.png,x,half,,\nb.png,y,99,,\nc.png,x,,,\n,z,,,\na.png,w,,no-model,\nb.png,v,,,no.geojson\n",
    )
    with pytest.raises(UsageError) as caught:
        read_slide_list(path, SETTINGS)
    message = str(caught.value)
    assert message.startswith(f"5 of 6 rows of {path} cannot be used: ")
    for said in (
        "line 2: mpp 'half' is no number",
        "line 3: mpp = 99",
        "line 5: it has no path",
        "line 6: ",
        "line 7: ",
    ):
        assert said in message
    assert "no-model" in message


def test_one_file_twice_and_one_id_twice(slides):
    twice = write(slides, "path,id\na.png,\na.png,\n")
    with pytest.raises(UsageError, match="line 3: it names the same file as line 2: give both an id"):
        read_slide_list(twice, SETTINGS)
    with pytest.raises(UsageError, match="line 3: id 'X' is that of line 2 too"):
        read_slide_list(write(slides, "path,id\na.png,x\nb.png,X\n"), SETTINGS)
    both = read_slide_list(write(slides, "path,id,scene\na.png,x,1\na.png,y,2\n"), SETTINGS)
    assert [entry.settings.scene for entry in both] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide,mpp\na.png,1\n", "has no column 'path'.* it has slide, mpp"),
        ("paht\na.png\n", "Did you mean 'paht'"),
        ("", "has no rows"),
        ("path,id\n", "has no rows"),
        ("path,note\na.png,one, two\n", "Line 2 .* more fields than the first line"),
    ],
)
def test_a_list_that_is_none(slides, text, said):
    with pytest.raises(UsageError, match=said):
        read_slide_list(write(slides, text), SETTINGS)


def test_a_list_that_is_not_there(tmp_path):
    for name in ("no.csv", "no.parquet"):
        with pytest.raises(UsageError, match=rf"The list .*{name} cannot be read"):
            read_slide_list(tmp_path / name, SETTINGS)
    with pytest.raises(UsageError, match="is no Parquet file"):
        read_slide_list(write(tmp_path, "path", "text.parquet"), SETTINGS)


def test_files_and_a_list_mix_and_the_row_wins(slides):
    path = write(slides, "path,mpp\na.png,0.5\n")
    entries = entries_of([slides / "a.png", slides / "b.png"], path, SETTINGS)
    assert [(entry.path.name, entry.settings.mpp) for entry in entries] == [("b.png", 0.25), ("a.png", 0.5)]
    assert [folder.name for folder in folders_of(entries, slides / "out")] == ["b", "a"]


def test_an_id_that_is_anothers_folder_is_refused(slides):
    entries = entries_of([slides / "b.png"], write(slides, "path,id\na.png,B\n"), SETTINGS)
    with pytest.raises(UsageError, match="share the folder B: give them different ids"):
        folders_of(entries, slides / "out")
    folder = slides / "out" / "x"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"slide": fingerprint(slides / "c.png")}))
    entries = entries_of([], write(slides, "path,id\na.png,x\n"), SETTINGS)
    with pytest.raises(UsageError, match="holds the result of another slide"):
        folders_of(entries, slides / "out")
    entries = entries_of([], write(slides, "path,id\nc.png,x\n"), SETTINGS)
    assert folders_of(entries, slides / "out") == [folder]
