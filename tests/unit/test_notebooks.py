"""The notebooks run from their first cell to their last, on what a checkout has.

Their cells are executed here as Python executes them, in one namespace, without a kernel in another process: that takes
a second, and no more packages than the notebooks themselves name.
"""

import ast
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"


def stained():
    """Purple ellipses on pink, uint8 (200, 240, 3), which a real model takes for nuclei."""
    image = Image.new("RGB", (240, 200), (228, 178, 205))
    draw = ImageDraw.Draw(image)
    for row in range(6):
        for column in range(7):
            x, y, a, b = 12 + 33 * column, 10 + 32 * row, 14 + 2 * (column % 3), 12 + 3 * (row % 2)
            draw.ellipse((x, y, x + a, y + b), fill=(92 + 5 * row, 62, 140))
    noise = np.random.default_rng(0).normal(0, 6, (200, 240, 3))
    return np.clip(np.asarray(image.filter(ImageFilter.GaussianBlur(0.8))) + noise, 0, 255).astype(np.uint8)


def run(name, folder, monkeypatch):
    """Execute a notebook in docs/notebooks of `folder`; return its names, and what each cell's last line is."""
    pytest.importorskip("matplotlib", reason="notebooks draw with matplotlib").use("Agg")
    pytest.importorskip("pandas", reason="notebooks use pandas")
    (folder / "docs" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(folder / "docs" / "notebooks")
    names, shown = {"__name__": "__main__"}, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # figures are not shown, painted images are no H&E
        for cell in json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            body = ast.parse("".join(cell["source"]), name).body
            last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), name, "exec"), names)
            shown.append(None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), names))
    return names, shown


@pytest.mark.slow
def test_from_an_image_to_plots(tmp_path, monkeypatch, capsys):
    image = stained()
    (tmp_path / "demo").mkdir()
    Image.fromarray(image).save(tmp_path / "demo" / "histo.jpg", quality=95)
    names, shown = run("image.ipynb", tmp_path, monkeypatch)
    assert shown[0] == image.shape
    cells = names["cells"]
    assert len(cells) > 20
    assert len(names["frame"]) == len(cells)
    assert names["counts"].sum() == len(cells)  # every nucleus lies in one tile of the density
    assert f"of {len(cells)} have a type of more than 80% probability" in capsys.readouterr().out
    drawn = np.asarray(names["drawn"].get_array())
    assert drawn.max() > 0


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_is_kept_of_a_notebook_is_whole_and_private(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]
    assert "esearch use only" in json.dumps(notebook)
    text = json.dumps([cell["source"] for cell in notebook["cells"]])
    assert not [place for place in ("/home/", "/root/", "/tmp/", "C:\\\\") if place in text]
