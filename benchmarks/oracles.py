"""Where a model loses PQ: its own maps, and those with the true foreground, the true flows, or both put in.

    python benchmarks/oracles.py STORE... [--model NAME] [--held-back 0.2] [--quick]

Images are those that training holds back with the default settings. What is left with both true is lost by the grid of
the network's maps and by decoding.
"""

from __future__ import annotations

import argparse
from pathlib import Path

VARIANTS = ("as predicted", "true foreground", "true flows", "both true")
SURE = 20.0


def predictions(predictor, patch):  # type: ignore[no-untyped-def]
    """Return an instance map at the patch's size for each of `VARIANTS`."""
    import numpy as np

    from cytolite.decoding import flows as flow_field
    from cytolite.decoding.instances import find_nuclei
    from cytolite.decoding.refine import FACTOR, refine
    from cytolite.training.validate import enlarge, pad_to_stride, resize

    spec = predictor.spec
    image = resize(patch.image, patch.mpp / spec.mpp)
    flows, logits = (maps[0] for maps in predictor.maps(pad_to_stride(image)[None]))
    rows, cols = (-(-side // spec.stride) for side in image.shape[:2])
    inside = (slice(0, rows), slice(0, cols))
    truth = np.zeros(logits.shape[1:], np.int32)
    truth[inside] = enlarge(patch.instance_map, (rows, cols))
    true_flows = flow_field.encode(truth)
    # Off the true nuclei the network's own flows stay: they are what its false nuclei are made of.
    mixed = np.where(truth > 0, true_flows, flows).astype(np.float32)
    certain = logits.copy()
    certain[0] = np.where(truth > 0, -SURE, SURE)
    found = {}
    for name, field, types in zip(
        VARIANTS, (flows, flows, mixed, true_flows), (logits, certain, logits, certain), strict=True
    ):
        instances = find_nuclei(np.ascontiguousarray(field, np.float32), types, spec, spec.mpp * spec.stride, inside)
        fine = refine(instances, types, spec.foreground_threshold, inside)
        height, width = (side * FACTOR // spec.stride for side in image.shape[:2])
        found[name] = enlarge(fine[:height, :width], patch.instance_map.shape)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", type=Path)
    parser.add_argument("--model", default="nuclei-base-int8")
    parser.add_argument("--held-back", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one image a source")
    args = parser.parse_args()

    import numpy as np

    from cytolite.bundle import load_bundle
    from cytolite.config import TrainSettings
    from cytolite.inference.predictor import Predictor
    from cytolite.metrics.bootstrap import score
    from cytolite.metrics.classes import own_classes
    from cytolite.metrics.counts import collect, count_image
    from cytolite.metrics.scores import METRICS
    from cytolite.metrics.truth import Prediction, true_nuclei
    from cytolite.training.run import split

    predictor = Predictor(load_bundle(args.model), threads=args.threads)
    patches = [p for p in split(args.stores, TrainSettings(held_back=args.held_back))[1] if p.judged]
    if args.quick:
        patches = list({p.source: p for p in patches}.values())
    classes = own_classes()
    counted = {name: [] for name in VARIANTS}
    for patch in patches:
        truth = true_nuclei(patch.instance_map, patch.judged_types(), classes, patch.name)
        for name, instances in predictions(predictor, patch).items():
            n = int(instances.max(initial=0))
            predicted = Prediction(instances, np.arange(1, n + 1), np.ones(n, np.int64))
            counted[name].append(count_image(truth, predicted, classes, patch.mpp))
    wanted = [m for m in METRICS if m.full_name in ("bpq_image", "bdq_image", "bsq_image", "f1_detection_pooled")]
    columns = [{"image": p.name, "source": p.source, "group": p.group} for p in patches]
    print(f"| source | maps | {' | '.join(f'`{m.full_name}`' for m in wanted)} |")
    print("|---" * (2 + len(wanted)) + "|")
    for source in sorted({p.source for p in patches}):
        mine = np.array([p.source == source for p in patches])
        for name, counts in counted.items():
            scores = score(collect(columns, counts, classes).select(mine), wanted)
            print(f"| {source}, n = {mine.sum()} | {name} | {' | '.join(map(str, scores))} |")


if __name__ == "__main__":
    main()
