import numpy as np

from cytolite.cells import CellTable


def table(n: int, seed: int = 0) -> CellTable:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 9, n)
    return CellTable(
        vertices=rng.normal(size=(lengths.sum(), 2)),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        centroids=rng.normal(size=(n, 2)),
        types=rng.integers(1, 8, n).astype(np.uint8),
        type_probs=rng.dirichlet(np.ones(7), n).astype(np.float32),
        area_um2=rng.uniform(10, 50, n).astype(np.float32),
        regions=rng.integers(-1, 3, n).astype(np.int32),
        features={"a": rng.normal(size=n).astype(np.float32)},
    )


def rows(cells: CellTable) -> list[tuple[object, ...]]:
    return [
        (cells.outline(i).tolist(), *cells.centroids[i], cells.types[i], *cells.type_probs[i], cells.regions[i],
         cells.features["a"][i])
        for i in range(len(cells))
    ]  # fmt: skip


def test_select_by_index_and_by_mask_keep_rows_whole():
    cells = table(20)
    index = np.array([7, 3, 3, 19, 0])
    assert rows(cells.select(index)) == [rows(cells)[i] for i in index]
    mask = cells.types > 3
    assert rows(cells.select(mask)) == [row for row, keep in zip(rows(cells), mask, strict=True) if keep]
    assert len(cells.select(np.zeros(20, bool))) == 0


def test_concatenate_is_one_after_the_other():
    parts = [table(5, 1), CellTable.empty(["a"]), table(7, 2)]
    assert rows(CellTable.concatenate(parts)) == [row for part in parts for row in rows(part)]
    assert len(CellTable.concatenate([])) == 0
