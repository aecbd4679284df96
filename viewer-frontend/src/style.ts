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
    for (const kind of this.kinds) {
      const [r, g, b] = this.colour(kind);
      table.set([r / 255, g / 255, b / 255, this.off.has(kind.id) ? 0 : 1], 4 * (kind.id & 63));
    }
    return table;
  }
}
