"""What a measure is: its formula, unit, source and edge rule, kept beside the function that computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Formula = TypeVar("Formula", bound=Callable[..., Any])


@dataclass(frozen=True)
class Definition:
    """What is told of a measure wherever its value is shown.

    Attributes
    ----------
    title : str
        As people say it.
    unit : str
    formula : str
    source : str
        Where it was published.
    edge : str
        What is done about the border of the window.
    caution : str
        When it misleads.
    """

    title: str
    unit: str
    formula: str
    source: str
    edge: str
    caution: str


# Every measure by its name in files.
MEASURES: dict[str, Definition] = {}


def measure(
    name: str, title: str, unit: str, formula: str, *, source: str, edge: str = "none needed", caution: str
) -> Callable[[Formula], Formula]:
    """Register a function as the measure called `name`.

    Parameters
    ----------
    name : str
        In files; the key in `MEASURES`.
    title, unit, formula, source, edge, caution : str
        As of `Definition`.
    """

    def register(function: Formula) -> Formula:
        MEASURES[name] = Definition(title, unit, formula, source, edge, caution)
        return function

    return register
