"""A bundle as a model that outlines marks."""

from __future__ import annotations

import numpy as np

from cytolite.bundle import Bundle
from cytolite.celltypes import TYPE_NAMES
from cytolite.errors import UsageError
from cytolite.inference.image import locate
from cytolite.inference.predictor import Predictor
from cytolite.patches import Patch
from cytolite.relabel.outlining import Model, Seen


def outliner(bundle: Bundle, tta: int, threads: int) -> Model:
    """Return a bundle as a model that outlines; `tta` and `threads` as of `Predictor`.

    Parameters
    ----------
    bundle : Bundle
        Model that outlines.
    tta : int
        Test-time augmentation: 1, 4 or 8 orientations.
    threads : int
        Threads within one call of the network.

    Raises
    ------
    UsageError
        If its network tells other types apart than the marks' labels speak of.
    """
    if bundle.spec.network_types.names != TYPE_NAMES:
        raise UsageError(
            f"The model {bundle.spec.name} tells apart {', '.join(bundle.spec.network_types.names)}, and outline is "
            f"for models of the seven types ({', '.join(TYPE_NAMES)})."
        )
    predictor = Predictor(bundle, threads=threads, tta=tta)

    def look(patch: Patch) -> Seen:
        located = locate(predictor.maps, bundle.spec, patch.image, patch.mpp)
        logits = located.decoded.type_logits
        shifted = np.exp(logits - logits.max(0))
        background = shifted[0] / shifted.sum(0)
        ids = located.decoded.instances.ravel()
        n = int(ids.max(initial=0))
        sums = np.bincount(ids, 1 - background.ravel(), n + 1)[1:]
        means = sums / np.maximum(np.bincount(ids, minlength=n + 1)[1:], 1)
        return Seen(located.instance_map, means, located.decoded.names(bundle.spec.type_temperature)[1])

    return Model(bundle.spec.name, bundle.sha256, look)
