"""What bf16 costs a model: nuclei found and scores beside float32, on the images that its training held back.

    python benchmarks/precision.py STORE... [--model nuclei-light] [--images N]

The stores are those that the model was trained on; needs the extras `train` and `openvino`, and a processor with bf16.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

from cytolite.bundle import load_bundle
from cytolite.evaluation.images import as_prediction, cases_of_patches, count_cases
from cytolite.inference.image import predict_image
from cytolite.inference.predictor import Predictor
from cytolite.metrics.bootstrap import headline, headline_differences
from cytolite.metrics.classes import own_classes
from cytolite.patches import Patch
from cytolite.release.origin import sides_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--model", default="nuclei-light")
    parser.add_argument("--images", type=int, help="of each source; default: all")
    args = parser.parse_args()
    bundle, classes = load_bundle(args.model), own_classes()
    sources: dict[str, list[Patch]] = defaultdict(list)
    for patch in sides_of([bundle], args.stores, None).held_back:
        sources[patch.source].append(patch)
    patches = [patch for held_back in sources.values() for patch in held_back[: args.images]]
    counts = {}
    for arithmetic in ("float32", "bf16"):
        predictor, start = Predictor(bundle, arithmetic=arithmetic), time.process_time()
        found = {(p.source, p.name): predict_image(predictor, p.image, p.mpp) for p in patches}
        seconds, n = time.process_time() - start, sum(len(nuclei.types) for nuclei in found.values())
        print(f"{arithmetic}: {n:,} nuclei in {len(patches)} images, {seconds:.1f} s of the processor", flush=True)
        counts[arithmetic] = count_cases(
            cases_of_patches(patches),
            lambda case, _, found=found: as_prediction(found[case.columns["source"], case.name]),
            classes,
        )
    before, after = (headline(counts[arithmetic]) for arithmetic in ("float32", "bf16"))
    for name, change in headline_differences(counts["bf16"], counts["float32"]).items():
        print(f"{name}: {before[name]}, in bf16 {after[name]}; difference {change.signed}")


if __name__ == "__main__":
    main()
