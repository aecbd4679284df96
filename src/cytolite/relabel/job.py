"""What all steps of a relabelling run share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cytolite.config import RelabelSettings
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
        """Show progress; give a function that is called once for each of `total` patches."""
        done = 0
        with self.display(title, "patches") as update:

            def tick() -> None:
                nonlocal done
                done += 1
                update(done, total)

            yield tick

    def cells(self, sources: Sequence[str], recipe: ClassifierRecipe) -> Samples:
        """Return the crops of a classifier's types in some datasets."""
        n = len(wanted_patches(self.stores, sources))
        with self.ticking(f"crops of {', '.join(sources)} for {recipe.name}", n) as tick:
            wanted = samples.Wanted(tuple(sources), recipe.type_ids)
            return samples.collect(self.stores, wanted, self.settings, self.out / "crops", tick)
