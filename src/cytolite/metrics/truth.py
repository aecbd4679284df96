"""The nuclei of one image, true or predicted, as matching needs them: an instance map and what each label says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError
from cytolite.metrics.classes import Classes
from cytolite.metrics.matching import compact


@dataclass(frozen=True)
class Truth:
    """The true nuclei of an image.

    Attributes
    ----------
    instance_map : numpy.ndarray
        int (H, W), 0 = background.
    ids : numpy.ndarray
        int64 (n,), ascending; all that occur.
    allowed : numpy.ndarray
        bool (n, types), the types that each nucleus's label leaves open: all of them where it is unknown.
    label : numpy.ndarray
        int64 (n,), the class that says exactly what the label says; 0 where the type is unknown.
    void : numpy.ndarray, optional
        bool (H, W), where it is not known whether there is a nucleus, or how far it reaches.
    """

    instance_map: NDArray[np.integer]
    ids: NDArray[np.int64]
    allowed: NDArray[np.bool_]
    label: NDArray[np.int64]
    void: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Prediction:
    """The predicted nuclei of an image.

    Attributes
    ----------
    instance_map : numpy.ndarray
        int (H, W), 0 = background.
    ids : numpy.ndarray
        int64 (m,), ascending; all that occur, perhaps more.
    types : numpy.ndarray
        int64 (m,), numbers of types from 1; 0 where there are none.
    probs : numpy.ndarray, optional
        float (m, types).
    """

    instance_map: NDArray[np.integer]
    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    probs: NDArray[np.floating] | None = None


def true_nuclei(
    instance_map: NDArray[np.integer],
    type_map: NDArray[np.integer] | None,
    classes: Classes,
    where: str,
) -> Truth:
    """Return the nuclei of a truth, with ignored ones taken out.

    Parameters
    ----------
    instance_map, type_map : numpy.ndarray
        int (H, W); without a type map the types are unknown. A nucleus has the label of most of its pixels.
    classes : Classes
        What the labels mean.
    where : str
        Names the truth in errors.

    Raises
    ------
    InputError
        If a label is not among the classes, or a nucleus has none.
    """
    if type_map is None:
        ids, _, _ = compact(instance_map)
        return Truth(
            instance_map, ids, np.ones((len(ids), len(classes.types)), bool), np.zeros(len(ids), np.int64), None
        )
    known = {0, *classes.labels, *classes.ignored}
    ids, labels = majority_labels(instance_map, type_map, known, where)
    void = np.isin(type_map, [*classes.ignored])
    # A type on ground where no nucleus is outlined marks a cell of unknown outline.
    void |= (type_map > 0) & (instance_map == 0)
    ignored = np.isin(labels, [*classes.ignored])
    if ignored.any():
        lost = np.isin(instance_map, ids[ignored])
        void |= lost
        instance_map = np.where(lost, 0, instance_map)
        ids, labels = ids[~ignored], labels[~ignored]
    label = classes.class_of_label[labels]
    return Truth(instance_map, ids, classes.allowed[labels], label, void if void.any() else None)


def predicted_nuclei(
    instance_map: NDArray[np.integer], type_map: NDArray[np.integer] | None, classes: Classes, where: str
) -> Prediction:
    """Return the nuclei of a prediction that is given as label maps, as `true_nuclei`; a label must name one type.

    Parameters
    ----------
    instance_map : numpy.ndarray
        int (H, W), 0 = background.
    type_map : numpy.ndarray, optional
        int (H, W) of label ids, if there are types.
    classes : Classes
        What the ids mean.
    where : str
        The image, for errors.

    Raises
    ------
    InputError
        If a label does not name one type, or a nucleus has none.
    """
    if type_map is None:
        ids, _, _ = compact(instance_map)
        return Prediction(instance_map, ids, np.zeros(len(ids), np.int64))
    known = {0, *np.flatnonzero(classes.type_of_label).tolist()}
    ids, labels = majority_labels(instance_map, type_map, known, where)
    return Prediction(instance_map, ids, classes.type_of_label[labels])


def majority_labels(
    instance_map: NDArray[np.integer], type_map: NDArray[np.integer], known: set[int], where: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of the nuclei and the label, not 0, that most pixels of each have.

    Parameters
    ----------
    instance_map, type_map : numpy.ndarray
        int (H, W), 0 = background.
    known : set of int
        Labels that may occur.
    where : str
        The image, for errors.

    Raises
    ------
    InputError
        If the type map holds a label that is not `known`, or is 0 all over a nucleus.
    """
    found = np.flatnonzero(np.bincount(type_map.ravel()))
    if unknown := sorted(set(found.tolist()) - known):
        raise InputError(
            f"{where} holds the types {', '.join(map(str, unknown))}; known are {', '.join(map(str, sorted(known)))}. "
            "Say what they mean with --types."
        )
    ids, _, flat = compact(instance_map)
    width = int(found.max(initial=0)) + 1
    votes = np.bincount(flat.astype(np.int64) * width + type_map.ravel(), minlength=(len(ids) + 1) * width)
    votes = votes.reshape(-1, width)[1:]
    votes[:, 0] = 0
    if len(untyped := ids[votes.sum(1) == 0]):
        raise InputError(
            f"{where} gives no type to {len(untyped):,} of {len(ids):,} nuclei (the first has the id {untyped[0]}); "
            "each nucleus needs one."
        )
    return ids, votes.argmax(1) if len(ids) else np.empty(0, np.int64)
