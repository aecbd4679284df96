// How cells look: shared by everything that draws or lists them.

import type { Kind, Rgb } from "./api";

export type Drawn = "outline" | "fill" | "both";

export class Style {
  readonly off = new Set<number>();
  drawn: Drawn = "outline";
  opacity = 0.9;
  /** Cells whose type is less probable are not drawn. */
  least = 0;
  safe = false;
  cells = true;
  image = true;
  tissue = false;
  regions = true;
  artefacts = false;
  compartments = false;
  /** Name of a density map; none where it is empty. */
  density = "";
  /** What cells are coloured by, instead of their type. */
  measure = "";
  /** The share of the measure's range that is shown, 0 to 1. */
  from = 0;
  to = 1;
  /** Types are being corrected: what was said to be no nucleus is drawn in grey. */
  labelling = false;

  constructor(readonly kinds: Kind[]) {}

  colour(kind: Kind): Rgb {
    return this.safe ? kind.safe_colour : kind.colour;
  }

  css(kind: Kind): string {
    return `rgb(${this.colour(kind).join(" ")})`;
  }

  kind(id: number): Kind | undefined {
    return this.kinds.find((kind) => kind.id === id);
  }

  /** RGBA by type's id; alpha 0 where a type is off. */
  palette(): Float32Array {
    const table = new Float32Array(4 * 64);
    if (this.labelling) table.set([0.35, 0.35, 0.35, 1], 0);
    for (const kind of this.kinds) {
      const [r, g, b] = this.colour(kind);
      table.set([r / 255, g / 255, b / 255, this.off.has(kind.id) ? 0 : 1], 4 * (kind.id & 63));
    }
    return table;
  }
}
