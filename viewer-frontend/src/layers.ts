// What lies over the slide besides nuclei: tissue, artefacts, compartments, and maps of density.

import { json, pictureAndNumber, type Page, type Polygons } from "./api";
import { path, rings, topmost } from "./regions";
import type { Style } from "./style";

export const OUTLINES = ["tissue", "artefacts", "compartments"] as const;
export type OutlineLayer = (typeof OUTLINES)[number];
const COLOURS: Record<OutlineLayer, string> = { tissue: "#00796b", artefacts: "#b00020", compartments: "#5b2a86" };

export interface Outline {
  name: string;
  colour: string;
  path: Path2D;
  filled: boolean;
  /** Where its name is written. */
  at: [number, number];
}

interface Density {
  image: ImageBitmap;
  most: number;
}

export class Layers {
  problem = "";
  private readonly outlines = new Map<OutlineLayer, Outline[]>();
  private readonly densities = new Map<string, Density>();
  private readonly asked = new Set<string>();

  constructor(
    private readonly page: Page,
    private readonly url: string,
    private readonly changed: () => void,
  ) {
    this.problem = page.layer_problem ?? "";
  }

  /** Outlines that are on; fetches what is on and not there yet. */
  shown(style: Style): Outline[] {
    return OUTLINES.filter((name) => style[name] && this.page.outlines.includes(name)).flatMap((name) => {
      this.once(name, () => this.loadOutlines(name));
      return this.outlines.get(name) ?? [];
    });
  }

  density(name: string): Density | null {
    if (!name || !this.page.densities.includes(name)) return null;
    this.once(`density ${name}`, async () => {
      const [image, most] = await pictureAndNumber(`${this.url}/density/${encodeURIComponent(name)}.png`, "x-most");
      this.densities.set(name, { image, most });
    });
    return this.densities.get(name) ?? null;
  }

  private once(key: string, load: () => Promise<void>): void {
    if (this.asked.has(key)) return;
    this.asked.add(key);
    load()
      .catch((error: Error) => (this.problem = error.message))
      .finally(this.changed);
  }

  private async loadOutlines(name: OutlineLayer): Promise<void> {
    const told = await json<{ outlines: { name: string; colour: [number, number, number] | null; geometry: Polygons }[] }>(`${this.url}/layers/${name}`);
    const made = told.outlines.map(({ name: text, colour, geometry }) => ({
      name: name === "compartments" ? text : "",
      colour: name === "compartments" && colour ? `rgb(${colour.join(" ")})` : COLOURS[name],
      path: path([geometry]),
      filled: name === "artefacts",
      at: topmost(rings(geometry)[0] ?? [[0, 0]]),
    }));
    this.outlines.set(name, made);
  }
}
