"""The model card: what a bundle was made of, how it was measured, and where it is weak; written from numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytolite.bundle import ModelSpec
from cytolite.celltypes import DEFAULT

# What users should know of a source's labels.
_KNOWN_OF = {
    "pannuke": "PanNuke's instances here were split by watershed, its types are the official ones.",
    "monusac": "MoNuSAC's macrophages are outlined as whole cells and taught the type alone.",
}
# A type with fewer nuclei than this in training or in validation is named as not to be relied on.
FEW_NUCLEI = 300


@dataclass(frozen=True)
class SourceRow:
    """One source of data: patches and nuclei on either side of the split, and where it comes from."""

    name: str
    patches: tuple[int, int]
    nuclei: tuple[int, int]
    licence: str
    citation: str


@dataclass(frozen=True)
class TypeRow:
    """One type: nuclei that trained and tested it, and how often its name was right among matched nuclei."""

    name: str
    trained: int
    tested: int
    recall: str
    precision: str


@dataclass(frozen=True)
class CardFacts:
    """Everything that the card states beside the spec.

    Attributes
    ----------
    network : str
        What the network consists of.
    sources : sequence of SourceRow
    types : sequence of TypeRow
        In the order of the types' ids.
    coarse : mapping of str to tuple of int
        Names of a coarse label's types to nuclei that trained and tested with it.
    scores : str
        Table of the scores of each source, Markdown.
    type_scores : mapping of str to str
        Source to the table of its types, Markdown; empty where its labels tell none apart.
    intervals : str
        How intervals were made, as a sentence.
    commands : sequence of str
        That made the bundle.
    """

    network: str
    sources: Sequence[SourceRow]
    types: Sequence[TypeRow]
    coarse: Mapping[str, tuple[int, int]]
    scores: str
    type_scores: Mapping[str, str]
    intervals: str
    commands: Sequence[str]


def render(spec: ModelSpec, facts: CardFacts) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    spec : ModelSpec
        Of the bundle.
    facts : CardFacts
        What the card tells.
    """
    parts = [_head(spec, facts), _scores(facts), _types(facts), _sources(facts), _limits(spec, facts), _making(facts)]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _head(spec: ModelSpec, facts: CardFacts) -> str:
    return f"""# {spec.name} {spec.version}

Finds, outlines and names nuclei in H&E images. **For research use only; not for diagnosis.**

| | |
| --- | --- |
| network | {facts.network} |
| parameters | {spec.parameters:,} |
| input | RGB at {spec.mpp:g} µm/px; slides of any resolution are resampled |
| output | flows (Cellpose's targets) and logits of background and the types {", ".join(spec.types)} |
| settings | P(nucleus) > {spec.foreground_threshold:g}, flow error <= {spec.flow_threshold:g}, \
area >= {spec.min_area_um2:g} µm², temperature of the types {spec.type_temperature:g} |
| licence of the weights | {spec.licence} |"""


def _scores(facts: CardFacts) -> str:
    types = [f"### Types: {source}\n\n{table}" for source, table in facts.type_scores.items() if table]
    return "\n\n".join(
        [
            f"""## Validation

On whole images (MoNuSAC: patients) that were held back from training, predicted by the shipped ONNX graph with the
settings above and matched to the truth at its own resolution (IoU > 0.5). `_image` is a mean over images, `_pooled`
takes the nuclei of all images together, `b` leaves types aside, `m` is the mean over types; recall alone stands where
most of the ground is not labelled. {facts.intervals} The temperature of the types is the median of those fitted
to each source's nuclei in these same images.""",
            facts.scores,
            *types,
        ]
    )


def _types(facts: CardFacts) -> str:
    rows = [[row.name, f"{row.trained:,}", f"{row.tested:,}", row.recall, row.precision] for row in facts.types]
    coarse = "; ".join(f'{trained:,} and {tested:,} as "{names}"' for names, (trained, tested) in facts.coarse.items())
    table = _table(["type", "nuclei trained", "nuclei tested", "recall of the name", "precision of the name"], rows)
    return f"""## Types

Recall: of the held-back nuclei of this type that were found, the share that was given its name. Precision: of the
found held-back nuclei that were given this name and whose label can tell, the share that is. A dash stands
where no source's labels tell the type apart, or none was found. Beside these, nuclei carried
coarse labels (trained and tested): {coarse or "none"}. A coarse label teaches only that the type is one of its set.

{table}"""


def _sources(facts: CardFacts) -> str:
    rows = [[s.name, *(f"{n:,}" for n in (*s.patches, *s.nuclei)), s.licence, s.citation] for s in facts.sources]
    header = ["source", "patches trained", "held back", "nuclei trained", "held back", "licence", "cite"]
    return f"## Data\n\n{_table(header, rows)}"


def few_examples(types: Sequence[TypeRow]) -> dict[str, tuple[int, int]]:
    """Return the types with too few nuclei to be relied on, with how many trained and tested."""
    return {row.name: (row.trained, row.tested) for row in types if min(row.trained, row.tested) < FEW_NUCLEI}


def _limits(spec: ModelSpec, facts: CardFacts) -> str:
    few = [
        f"{name} ({trained:,} trained, {tested:,} tested)"
        for name, (trained, tested) in few_examples(facts.types).items()
    ]
    others = "Plasma cells, mitoses and other types" if spec.type_set == DEFAULT else "Types"
    # What is known of the public sources that nuclei of these may come from.
    of_sources = [text for source, text in _KNOWN_OF.items() if source in spec.data]
    known = "".join(f"- {text}\n" for text in of_sources)
    return f"""## Limits

- Types with few examples, whose names and counts are not to be relied on: {", ".join(few) or "none"}.
- {others} outside the {_count(len(spec.types))} are given the nearest of them.
{known}- Not tested on frozen sections, cytology, other stains, or scanners unlike those of the data."""


def _count(n: int) -> str:
    return "seven" if n == len(DEFAULT) else str(n)


def _making(facts: CardFacts) -> str:
    commands = "\n".join(facts.commands)
    return f"## How it was made\n\n```bash\n{commands}\n```"
