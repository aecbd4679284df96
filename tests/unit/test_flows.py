"""Flows against a slow reading of the method in numpy, against cellpose itself, and against real nuclei."""

import numpy as np
import pytest
from PIL import Image

ndimage = pytest.importorskip("scipy.ndimage", reason="needs scipy")

from cytolite.decoding.cellpose import decode_like_cellpose  # noqa: E402
from cytolite.decoding.flows import decode, encode  # noqa: E402
from cytolite.errors import InputError  # noqa: E402

DECODERS = {True: decode_like_cellpose, False: decode}
NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def nuclei(size: int, n: int, seed: int, radius: float = 10.0) -> np.ndarray:
    """Return an int32 map of up to `n` ellipses at random; many touch, some are cut by the border."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    instance_map = np.zeros((size, size), np.int32)
    for i in range(1, n + 1):
        (cy, cx), turn = rng.uniform(0, size, 2), rng.uniform(0, np.pi)
        a = rng.uniform(0.5, 1) * radius
        b = rng.uniform(0.5, 1) * a
        u = (cols - cx) * np.cos(turn) + (rows - cy) * np.sin(turn)
        v = (rows - cy) * np.cos(turn) - (cols - cx) * np.sin(turn)
        ellipse = (u / a) ** 2 + (v / b) ** 2 <= 1
        if ellipse.sum() > 20 and not (instance_map[ellipse] > 0).mean() > 0.1:
            instance_map[ellipse & (instance_map == 0)] = i
    return instance_map


def best_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return, for every nucleus of `a`, its best IoU with one of `b`."""
    both = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(both, (a.ravel(), b.ravel()), 1)
    union = both.sum(1)[1:, None] + both.sum(0)[None, 1:] - both[1:, 1:]
    present = both.sum(1)[1:] > 0
    return (both[1:, 1:] / union).max(1, initial=0)[present]


@pytest.fixture(scope="module")
def dynamics():  # type: ignore[no-untyped-def]
    """Return cellpose.dynamics, where it is installed, on one thread: torch's threads crawl on a busy machine."""
    dynamics = pytest.importorskip("cellpose.dynamics", reason="cellpose is not installed")
    dynamics.torch.set_num_threads(1)
    return dynamics


def slow_encode(instance_map: np.ndarray) -> np.ndarray:
    """Heat in every nucleus, step by step on whole images, as the paper tells it."""
    padded = np.pad(instance_map, 1)
    sources, longest = [], 0
    for i in np.unique(padded)[1:]:
        rows, cols = np.nonzero(padded == i)
        top, left = rows.min(), cols.min()
        r, c = np.round((rows - top).mean()) + top, np.round((cols - left).mean()) + left
        nearest = np.argmin((rows - r) ** 2 + (cols - c) ** 2)
        sources.append((rows[nearest], cols[nearest]))
        longest = max(longest, np.ptp(rows) + np.ptp(cols) + 4)
    heat = np.zeros(padded.shape)
    same = [(np.roll(padded, shift, (0, 1)) == padded) & (padded > 0) for shift in NEIGHBOURS]
    for _ in range(2 * longest):
        for source in sources:
            heat[source] += 1
        heat = sum(np.roll(heat, shift, (0, 1)) * ok for shift, ok in zip(NEIGHBOURS, same, strict=True)) / 9
    dy = np.roll(heat, -1, 0) - np.roll(heat, 1, 0)
    dx = np.roll(heat, -1, 1) - np.roll(heat, 1, 1)
    flows = np.stack([dy, dx]) / (1e-60 + np.hypot(dy, dx))
    return (flows * (padded > 0))[:, 1:-1, 1:-1]


def slow_decode(
    flows: np.ndarray,
    foreground: np.ndarray,
    threshold: float = 0.4,
    smallest: int = 15,
    like_cellpose: bool = True,
) -> np.ndarray:
    """Euler steps, histogram, seeds, growth, flow check, holes and sizes; every rule on whole images, in float64."""
    height, width = foreground.shape
    field = np.pad(flows * foreground, ((0, 0), (1, 1), (1, 1))).astype(float)
    y, x = start = [a.astype(float) for a in np.nonzero(foreground)]
    for _ in range(200):
        # cellpose samples at p * W / (W - 1) - 1 / 2, here moved by the margin of one pixel
        at_y, at_x = y * height / (height - 1) + 0.5, x * width / (width - 1) + 0.5
        if not like_cellpose:
            at_y, at_x = y + 1, x + 1
        r, c = np.floor(at_y).astype(int), np.floor(at_x).astype(int)
        fy, fx = at_y - r, at_x - c
        step = (field[:, r, c] * (1 - fx) + field[:, r, c + 1] * fx) * (1 - fy)
        step += (field[:, r + 1, c] * (1 - fx) + field[:, r + 1, c + 1] * fx) * fy
        y, x = np.clip(y + step[0], 0, height - 1), np.clip(x + step[1], 0, width - 1)
    y, x = ((a if like_cellpose else np.floor(a + 0.5)).astype(int) + 5 for a in (y, x))
    counts = np.zeros((height + 10, width + 10), int)
    np.add.at(counts, (y, x), 1)
    seeds = np.argwhere((counts == ndimage.maximum_filter(counts, 5)) & (counts > 10))
    owner = np.zeros_like(counts)
    for i, (r, c) in enumerate(sorted(seeds.tolist(), key=lambda s: counts[*s]), start=1):
        reach = np.zeros(counts.shape, bool)
        reach[r, c] = True
        for _ in range(5):
            reach = ndimage.maximum_filter(reach, 3) & (counts > 2)
        owner[reach] = i
    labels = np.zeros(foreground.shape, np.int32)
    labels[start[0].astype(int), start[1].astype(int)] = owner[y, x]
    errors = ((slow_encode(labels) - flows) ** 2).sum(0)
    found = [labels == i for i in np.unique(labels)[1:]]
    found = [m for m in found if errors[m].mean() <= threshold and m.sum() >= smallest]
    found.sort(key=lambda m: np.flatnonzero(m)[0])
    result = np.zeros(foreground.shape, np.int32)
    for i, mask in enumerate(found, start=1):
        result[ndimage.binary_fill_holes(mask)] = i
    return result


def disturbed(instance_map: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return flows and foreground as a network might give them, rounded so that 5 * flows / 5 == flows."""
    rng = np.random.default_rng(3)
    flows, foreground = encode(instance_map), instance_map > 0
    if kind == "smooth":
        flows = 0.9 * ndimage.gaussian_filter(flows, (0, 1, 1))
    elif kind != "clean":
        flows = flows + float(kind) * rng.standard_normal(flows.shape)
        foreground = foreground & (rng.random(foreground.shape) > 0.01)
    return (5 * flows).astype(np.float32) / np.float32(5), foreground


# --------------------------------------------------------------------------------------------------------------- encode


@pytest.mark.parametrize("seed", range(4))
def test_encode_is_the_heat_of_the_paper(seed: int) -> None:
    instance_map = nuclei(40, 9, seed)
    flows = encode(instance_map)
    assert flows.dtype == np.float32
    np.testing.assert_allclose(flows, slow_encode(instance_map), atol=1e-6)


def test_encode_equals_cellpose(dynamics) -> None:  # type: ignore[no-untyped-def]
    instance_map = nuclei(200, 90, seed=5)
    consecutive = np.unique(instance_map, return_inverse=True)[1].reshape(instance_map.shape)
    expected, _ = dynamics.masks_to_flows_gpu(consecutive)
    np.testing.assert_allclose(encode(instance_map), expected, atol=1e-6)


def test_vectors_are_units_inside_and_zero_outside() -> None:
    instance_map = nuclei(96, 30, seed=1)
    norm = np.hypot(*encode(instance_map))
    assert not norm[instance_map == 0].any()
    inside = norm[instance_map > 0]
    assert np.all((np.abs(inside - 1) < 1e-6) | (inside == 0))
    assert (inside == 0).sum() <= len(np.unique(instance_map))  # at most a centre each


@pytest.mark.parametrize(
    ("turn", "vectors"),
    [
        (lambda a: np.rot90(a, 1, (-2, -1)), lambda dy, dx: (-dx, dy)),
        (lambda a: np.rot90(a, 2, (-2, -1)), lambda dy, dx: (-dy, -dx)),
        (lambda a: np.rot90(a, 3, (-2, -1)), lambda dy, dx: (dx, -dy)),
        (lambda a: a[..., ::-1], lambda dy, dx: (dy, -dx)),
        (lambda a: a[..., ::-1, :], lambda dy, dx: (-dy, dx)),
        (lambda a: np.swapaxes(a, -1, -2), lambda dy, dx: (dx, dy)),
    ],
    ids=["90", "180", "270", "left-right", "up-down", "transposed"],
)
def test_turning_the_map_turns_the_vectors(turn, vectors) -> None:  # type: ignore[no-untyped-def]
    # Nuclei whose mean lies on the edge between two pixels have no centre that turns with them: leave them out.
    instance_map = nuclei(96, 40, seed=2)
    for i in np.unique(instance_map)[1:]:
        for mean in np.mean(np.nonzero(instance_map == i), axis=1):
            if abs(mean % 1 - 0.5) < 0.02:
                instance_map[instance_map == i] = 0
    assert len(np.unique(instance_map)) > 10
    dy, dx = turn(encode(instance_map))
    np.testing.assert_allclose(encode(turn(instance_map)), np.stack(vectors(dy, dx)), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint64])
def test_ids_and_their_dtype_do_not_matter(dtype: type) -> None:
    instance_map = nuclei(64, 12, seed=4)
    most = min(np.iinfo(dtype).max, 2**60)
    table = np.array([0, *np.random.default_rng(0).permutation(12) * (most // 13) + 1]).astype(dtype)
    np.testing.assert_array_equal(encode(table[instance_map]), encode(instance_map))


def test_moving_the_map_moves_the_vectors() -> None:
    instance_map = nuclei(64, 15, seed=6)
    moved = encode(np.pad(instance_map, ((3, 10), (7, 0))))
    np.testing.assert_array_equal(moved[:, 3:-10, 7:], encode(instance_map))


# --------------------------------------------------------------------------------------------------------------- decode


@pytest.mark.parametrize("kind", ["clean", "smooth", "0.1"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("like_cellpose", [True, False])
def test_decode_is_the_method_step_by_step(kind: str, seed: int, like_cellpose: bool) -> None:
    flows, foreground = disturbed(nuclei(64, 18, seed), kind)
    expected = slow_decode(flows, foreground, like_cellpose=like_cellpose)
    found = DECODERS[like_cellpose](flows, foreground)
    assert found.dtype == np.int32
    assert found.max() == expected.max() > 5
    assert best_iou(expected, found).min() > 0.9  # the same rules, but float32 steps that stop early


@pytest.mark.parametrize("kind", ["clean", "smooth", "0.1", "0.3", "0.42"])
def test_decode_equals_cellpose(kind: str, dynamics) -> None:  # type: ignore[no-untyped-def]
    instance_map = nuclei(300, 200, seed=8)
    instance_map[40:44, 40:44] = instance_map.max() + 1
    flows, foreground = disturbed(instance_map, kind)
    expected = dynamics.resize_and_compute_masks(
        np.float32(5) * flows, foreground.astype(np.float32), max_size_fraction=1
    ).astype(np.int32)
    assert expected.max() > 20
    exact, quick = decode_like_cellpose(flows, foreground, tolerance=0), decode_like_cellpose(flows, foreground)
    # Noise of 0.42 puts half of the nuclei at the flow check's threshold: there one early stop can turn the scale.
    for found, least in ((exact, 0.99), (quick, 0.97 if kind == "0.42" else 0.99)):
        assert (best_iou(expected, found) > 0.9).mean() >= least
        assert (best_iou(found, expected) > 0.9).mean() >= least
    # torch on this kind of CPU may round differently, then single pixels move
    assert (exact != expected).mean() < 1e-3


@pytest.mark.parametrize("kind", ["smooth", "0.3", "0.42"])
def test_a_nucleus_does_not_depend_on_the_image_around_it(kind: str) -> None:
    """To the last bit, wherever in however large an image, and whatever long nucleus is elsewhere in it."""
    flows, foreground = disturbed(nuclei(150, 60, seed=12), kind)
    alone = decode(flows, foreground)
    assert alone.max() > 10
    long = np.zeros((700, 900), np.int32)
    long[690:696, 20:800] = 1
    for top, left in ((1, 1), (301, 517), (520, 740)):
        canvas_flows, canvas = encode(long), long > 0
        here = (slice(top, top + 150), slice(left, left + 150))
        canvas_flows[(slice(None), *here)], canvas[here] = flows, foreground
        found = decode(canvas_flows, canvas)[here]
        np.testing.assert_array_equal(found > 0, alone > 0)
        pairs = np.unique(np.stack([found, alone])[:, alone > 0], axis=1)
        assert pairs.shape[1] == alone.max()  # the same nuclei under other numbers


@pytest.mark.parametrize("like_cellpose", [True, False])
def test_decode_undoes_encode(like_cellpose: bool) -> None:
    instance_map = nuclei(256, 150, seed=9)
    ious = best_iou(instance_map, DECODERS[like_cellpose](encode(instance_map), instance_map > 0))
    assert (ious > 0.5).all()
    assert np.median(ious) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("like_cellpose", [True, False])
def test_decode_undoes_encode_on_real_nuclei(shared_data, like_cellpose: bool) -> None:  # type: ignore[no-untyped-def]
    ious = []
    for path in sorted((shared_data / "consep" / "inst").glob("*.png"))[::3]:
        instance_map = np.array(Image.open(path))
        found = DECODERS[like_cellpose](encode(instance_map), instance_map > 0)
        ious.append(best_iou(instance_map, found))
    ious = np.concatenate(ious)
    assert len(ious) == 6134
    assert (ious > 0.5).mean() >= 0.995
    assert np.median(ious) >= 0.95


def test_threads_and_odd_steps() -> None:
    flows, foreground = disturbed(nuclei(200, 80, seed=10), "0.1")
    once = decode(flows, foreground)
    np.testing.assert_array_equal(decode(flows, foreground, threads=3), once)
    assert (best_iou(once, decode(flows, foreground, steps=201)) > 0.9).all()
    assert decode(flows, foreground, steps=1).max() == 0  # nobody has arrived anywhere yet
    assert decode_like_cellpose(flows, foreground, steps=1).max() == 0


def test_flow_check_drops_what_does_not_flow_to_a_centre() -> None:
    instance_map = nuclei(96, 20, seed=11)
    flows = encode(instance_map)
    one = instance_map == np.unique(instance_map)[1]
    flows[:, one] *= 0.2  # still ends in one place, but its error is 0.8 ** 2
    with_check, without = decode(flows, instance_map > 0), decode(flows, instance_map > 0, flow_threshold=None)
    assert not with_check[one].any()
    assert without.max() == with_check.max() + 1
    assert decode(flows, instance_map > 0, flow_threshold=0.7).max() == without.max()


@pytest.mark.parametrize(("decode", "hole"), [(decode, slice(29, 30)), (decode_like_cellpose, slice(29, 31))])
def test_holes_are_filled_and_small_nuclei_dropped(decode, hole: slice) -> None:  # type: ignore[no-untyped-def]
    rows, cols = np.mgrid[:60, :60]
    instance_map = ((rows - 30) ** 2 + (cols - 30) ** 2 <= 12**2).astype(np.int32)
    flows = encode(instance_map)
    foreground = instance_map > 0
    foreground[hole, 22] = False  # larger holes hold pixels up that flow through them
    found = decode(flows, foreground, flow_threshold=None)
    assert found.max() == 1
    np.testing.assert_array_equal(found, instance_map)
    n_pixels = int(foreground.sum())
    assert decode(flows, foreground, flow_threshold=None, min_size_px=n_pixels).max() == 1
    assert decode(flows, foreground, flow_threshold=None, min_size_px=n_pixels + 1).max() == 0  # before filling


@pytest.mark.parametrize(
    "instance_map",
    [
        np.zeros((0, 0), int),
        np.zeros((20, 30), int),
        np.ones((1, 1), int),
        np.ones((1, 8), int),
        np.ones((8, 1), int),
        np.eye(9, dtype=int)[::2],
        np.arange(400).reshape(20, 20),
        np.ones((30, 20), int),
        np.pad(np.ones((12, 12), int), ((0, 9), (0, 9))),
    ],
    ids=["no pixel", "empty", "one pixel", "row", "column", "dots", "all one-pixel", "all one nucleus", "corner"],
)
def test_odd_maps(instance_map: np.ndarray) -> None:
    flows = encode(instance_map)
    np.testing.assert_allclose(
        flows, slow_encode(instance_map) if instance_map.any() else np.zeros(flows.shape), atol=1e-6
    )
    found = decode(flows, instance_map > 0)
    assert found.shape == instance_map.shape
    if min(instance_map.shape) > 10 and instance_map.max() == 1:
        np.testing.assert_array_equal(found, instance_map)


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "instance_map",
    [np.zeros((4, 4)), np.zeros((4, 4), bool), np.zeros((2, 4, 4), int), np.full((4, 4), -1)],
    ids=["float", "bool", "3-D", "negative"],
)
def test_encode_refuses(instance_map: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"instance map .*\.$"):
        encode(instance_map)


GOOD_FLOWS, GOOD_FOREGROUND = np.zeros((2, 8, 9), np.float32), np.ones((8, 9), bool)
NAN_FLOWS, INF_FLOWS = GOOD_FLOWS.copy(), GOOD_FLOWS.copy()
NAN_FLOWS[1, 3, 3], INF_FLOWS[0, 2, 2] = np.nan, -np.inf


@pytest.mark.parametrize(
    ("flows", "foreground", "options", "word"),
    [
        (GOOD_FLOWS[0], GOOD_FOREGROUND, {}, "flows"),
        (np.zeros((3, 8, 9), np.float32), GOOD_FOREGROUND, {}, "flows"),
        (np.zeros((8, 9, 2), np.float32), GOOD_FOREGROUND, {}, "flows"),
        (GOOD_FLOWS.astype(int), GOOD_FOREGROUND, {}, "flows"),
        (NAN_FLOWS, GOOD_FOREGROUND, {}, "not finite"),
        (INF_FLOWS, GOOD_FOREGROUND, {}, "not finite"),
        (GOOD_FLOWS, GOOD_FOREGROUND.T, {}, "foreground"),
        (GOOD_FLOWS, GOOD_FOREGROUND.astype(np.float32), {}, "foreground"),
        (GOOD_FLOWS, GOOD_FOREGROUND, {"flow_threshold": -1}, "flow_threshold"),
        (GOOD_FLOWS, GOOD_FOREGROUND, {"flow_threshold": np.nan}, "flow_threshold"),
        (GOOD_FLOWS, GOOD_FOREGROUND, {"min_size_px": -1}, "min_size_px"),
        (GOOD_FLOWS, GOOD_FOREGROUND, {"steps": 0}, "steps"),
        (GOOD_FLOWS, GOOD_FOREGROUND, {"tolerance": -1e-4}, "tolerance"),
        (GOOD_FLOWS, GOOD_FOREGROUND, {"threads": 0}, "threads"),
    ],
)
def test_decode_refuses(flows: np.ndarray, foreground: np.ndarray, options: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        decode(flows, foreground, **options)
