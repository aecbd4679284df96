"""The cache of crops: what is read is what was computed, once, also when it was filled in two goes."""

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from cytolite.errors import OutputError  # noqa: E402
from cytolite.training import cache  # noqa: E402
from cytolite.training.cache import CropCache  # noqa: E402

N = 7


def crop(number: int) -> dict[str, "torch.Tensor"]:
    return {"image": torch.full((3, 4, 4), number, dtype=torch.uint8)}


class Producer:
    """Answers with the crop's number, and counts what it was asked; dies after `lasts` batches."""

    def __init__(self, lasts: int = 99) -> None:
        self.lasts, self.seen = lasts, []

    def __call__(self, batch):
        if not self.lasts:
            raise RuntimeError("power cut")
        self.lasts -= 1
        numbers = batch["image"][:, 0, 0, 0].float()
        self.seen += numbers.tolist()
        return {"maps_0": numbers.view(-1, 1, 1, 1).expand(-1, 2, 3, 3), "maps_1": numbers.view(-1, 1) * 1e5}


def check(made: CropCache) -> None:
    for number in (6, 0, 3):
        arrays = made.read(number)
        assert arrays["maps_0"].shape == (2, 3, 3)
        assert (arrays["maps_0"] == number).all()
        # Float16 ends at 65,504: larger values are held there and not made infinite.
        assert arrays["maps_1"].item() == pytest.approx(min(number * 1e5, 65504))


def test_what_is_read_is_what_was_computed_and_nothing_is_computed_twice(tmp_path):
    made, producer = CropCache(tmp_path, {"a": 1}, N), Producer()
    made.fill(crop, producer, 3, 0)
    check(made)
    again = CropCache(tmp_path, {"a": 1}, N)
    again.fill(crop, Producer(lasts=0), 3, 0)
    check(again)
    check(pickle.loads(pickle.dumps(made)))
    assert producer.seen == list(range(N))
    assert made.size_bytes == pytest.approx(N * (2 * 9 + 1) * 2 + 2 * 128, abs=1)


def test_a_cache_that_was_cut_off_goes_on(tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        CropCache(tmp_path, {"a": 1}, N).fill(crop, Producer(lasts=2), 2, 0)
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
    made, rest = CropCache(tmp_path, {"a": 1}, N), Producer()
    made.fill(crop, rest, 2, 0)
    assert rest.seen == [4, 5, 6]
    check(made)
    assert not list(made.path.glob("done*"))


def test_another_content_has_another_place(tmp_path):
    paths = {CropCache(tmp_path, {"a": a}, n).path for a in (1, 2) for n in (N, N + 1)}
    assert len(paths) == 4
    assert CropCache(tmp_path, {"a": 1, "b": 2}, N).path == CropCache(tmp_path, {"b": 2, "a": 1}, N).path


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="fewer fixed crops"):
        CropCache(tmp_path, {}, N).fill(crop, Producer(), 3, 0)
    assert not list(tmp_path.rglob("*.npy"))
    assert np.isfinite(cache.HALF_MAX)
