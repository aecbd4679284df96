// Regions that are drawn, and what is counted in them: the server counts, so that the numbers are those of `segment --roi`.

import { json, type Polygons, type Ring, type Row } from "./api";

export interface Region {
  name: string;
  geometry: Polygons;
}

export class Regions {
  all: Region[] = [];
  rows: Row[] = [];
  problem = "";
  /** The measure that histograms are of. */
  by = "area_um2";
  private asked = 0;

  constructor(
    private readonly url: string,
    private readonly changed: () => void,
  ) {}

  add(ring: Ring): void {
    this.all.push({ name: this.free("region"), geometry: { type: "Polygon", coordinates: [rounded([...ring, ring[0]])] } });
    void this.measure();
  }

  remove(index: number): void {
    this.all.splice(index, 1);
    void this.measure();
  }

  clear(): void {
    this.all = [];
    void this.measure();
  }

  rename(index: number, name: string): void {
    this.all[index].name = name.trim() || this.free("region");
    void this.measure();
  }

  private free(word: string): string {
    const taken = new Set(this.all.map((region) => region.name.toLowerCase()));
    let number = 1;
    while (taken.has(`${word} ${number}`)) number++;
    return `${word} ${number}`;
  }

  /** Have histograms of another measure. */
  measureBy(name: string): void {
    if (name === this.by) return;
    this.by = name;
    if (this.all.length) void this.measure();
  }

  /** As QuPath exports annotations; `segment --roi` and QuPath read it. */
  geojson(): object {
    return {
      type: "FeatureCollection",
      features: this.all.map((region) => ({
        type: "Feature",
        geometry: region.geometry,
        properties: { objectType: "annotation", name: region.name },
      })),
    };
  }

  /** Add the polygons of a GeoJSON file. */
  take(text: string): void {
    const content = JSON.parse(text) as { features?: unknown[]; type?: string };
    const features = (content.features ?? (Array.isArray(content) ? content : [content])) as Record<string, unknown>[];
    let found = 0;
    for (const feature of features) {
      const geometry = (feature.geometry ?? feature) as Polygons;
      if (geometry.type !== "Polygon" && geometry.type !== "MultiPolygon") continue;
      const name = (feature.properties as { name?: unknown } | undefined)?.name;
      this.all.push({ name: typeof name === "string" && name ? name : this.free("region"), geometry });
      found++;
    }
    if (!found) throw new Error("The file holds no polygon; export annotations from QuPath as GeoJSON.");
    void this.measure();
  }

  async measure(): Promise<void> {
    const mine = ++this.asked;
    this.problem = "";
    let rows: Row[] = [];
    if (this.all.length) {
      this.changed();
      try {
        const body = JSON.stringify(this.geojson());
        const init = { method: "POST", body, headers: { "content-type": "application/json" } };
        rows = (await json<{ rows: Row[] }>(`${this.url}/measure?by=${encodeURIComponent(this.by)}`, init)).rows;
      } catch (error) {
        this.problem = (error as Error).message;
      }
    }
    if (mine !== this.asked) return; // another region was drawn meanwhile
    this.rows = rows;
    this.changed();
  }
}

function rounded(ring: Ring): Ring {
  return ring.map(([x, y]) => [Math.round(x * 100) / 100, Math.round(y * 100) / 100]);
}

/** All rings of a polygon or several. */
export function rings(geometry: Polygons): Ring[] {
  return (geometry.type === "Polygon" ? geometry.coordinates : geometry.coordinates.flat()) as Ring[];
}

export function path(geometries: Polygons[]): Path2D {
  const made = new Path2D();
  for (const ring of geometries.flatMap(rings)) {
    ring.forEach(([x, y], i) => (i ? made.lineTo(x, y) : made.moveTo(x, y)));
    made.closePath();
  }
  return made;
}

export function topmost(ring: Ring): [number, number] {
  return ring.reduce((best, at) => (at[1] < best[1] ? at : best));
}
