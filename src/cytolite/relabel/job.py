"""What all steps of a relabelling run share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from cytolite.config import RelabelSettings
from cytolite.datasets.duplicates import read_pairs
from cytolite.datasets.splits import clusters
from cytolite.datasets.store import Store
from cytolite.relabel import samples
from cytolite.relabel.recipe import ClassifierRecipe, Recipe
from cytolite.relabel.samples import Samples, wanted_patches


class Display(Protocol):
    """As `cytolite.progress.Display`: takes a title and a unit, gives what is called with done and to do."""

    def __call__(self, title: str, unit: str = ...) -> AbstractContextManager[Callable[[float, float], None]]: ...


@dataclass(frozen=True)
class Job:
    """A run: its recipe, its open stores, its folder, its settings, and how its progress is shown."""

    recipe: Recipe
    stores: Sequence[Store]
    out: Path
    settings: RelabelSettings
    display: Display

    @property
    def sources(self) -> list[str]:
        """Datasets that the stores hold."""
        return sorted({source for store in self.stores for source in store.texts("source")})

    @contextmanager
    def ticking(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """Show progress; give a function that is called once for each of `total` patches.

        Parameters
        ----------
        title : str
            What is worked on, for the display.
        total : int
            Patches.
        """
        done = 0
        with self.display(title, "patches") as update:

            def tick() -> None:
                nonlocal done
                done += 1
                update(done, total)

            yield tick

    @cached_property
    def clusters(self) -> dict[tuple[str, str], int]:
        """Number of each dataset's patient or image: the same for those that duplicates link, over all datasets."""
        sources, groups, names = (
            [text for store in self.stores for text in store.texts(column)] for column in ("source", "group", "name")
        )
        pairs = read_pairs(self.settings.duplicates, sources, names) if self.settings.duplicates else []
        # In the order in which they come, so that pairs leave the order of all others, and so the draw, alone.
        found: dict[int, int] = {}
        numbers = [found.setdefault(int(cluster), len(found)) for cluster in clusters(sources, groups, pairs)]
        return dict(zip(zip(sources, groups, strict=True), numbers, strict=True))

    def cells(self, sources: Sequence[str], recipe: ClassifierRecipe) -> Samples:
        """Return the crops of a classifier's types in some datasets; groups are numbered over all datasets.

        Parameters
        ----------
        sources : sequence of str
            Datasets.
        recipe : ClassifierRecipe
            Its types are collected.
        """
        n = len(wanted_patches(self.stores, sources))
        with self.ticking(f"crops of {', '.join(sources)} for {recipe.name}", n) as tick:
            wanted = samples.Wanted(tuple(sources), recipe.type_ids)
            found = samples.collect(self.stores, wanted, self.settings, self.out / "crops", tick)
        numbers = np.array([self.clusters[source, group] for source, group in found.owners.tolist()], np.int32)
        return replace(found, groups=numbers[found.groups])
