// What the server tells, and how to ask it.

export interface Card {
  name: string;
  error?: string;
  slide: string;
  model: string;
  finished: string;
  cells: number;
  tissue_mm2: number;
  cells_per_mm2: number | null;
  types: Record<string, number>;
  warnings: string[];
}

export interface Gallery {
  notice: string;
  version: string;
  results: Card[];
}

export type Rgb = [number, number, number];

export interface Kind {
  id: number;
  name: string;
  colour: Rgb;
  safe_colour: Rgb;
}

export interface Layers {
  outlines: string[];
  densities: string[];
  density_px: number;
  density_size: [number, number];
  layer_problem: string | null;
}

export interface Page extends Card, Layers {
  measures: string[];
  /** Why there is no teaching here. */
  teach_problem: string | null;

  notice: string;
  width_px: number;
  height_px: number;
  mpp: number;
  kinds: Kind[];
  levels: number;
  tile_px: number;
  outline_tile_px: number;
  slide_problem: string | null;
}

export interface Histogram {
  low: number;
  high: number;
  counts: number[];
}

/** A row of counts: of a region, or "total". */
export type Row = Record<string, number | string | null> & { histogram?: Histogram };

export type Ring = [number, number][];

export interface Polygons {
  type: string;
  coordinates: unknown[];
}

async function asked(url: string, init?: RequestInit): Promise<Response> {
  const answer = await fetch(url, init);
  if (answer.ok) return answer;
  let sentence = `${answer.status} ${answer.statusText}`;
  try {
    sentence = ((await answer.json()) as { error: string }).error;
  } catch {
    // the status is all that there is to tell
  }
  throw new Error(sentence);
}

export async function json<T>(url: string, init?: RequestInit): Promise<T> {
  return (await asked(url, init)).json() as Promise<T>;
}

export async function sent<T>(url: string, body: unknown): Promise<T> {
  return json<T>(url, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } });
}

export async function bytes(url: string): Promise<ArrayBuffer> {
  return (await asked(url)).arrayBuffer();
}

export async function picture(url: string): Promise<ImageBitmap> {
  return createImageBitmap(await (await asked(url)).blob());
}

/** A picture, and a number that its header tells. */
export async function pictureAndNumber(url: string, header: string): Promise<[ImageBitmap, number]> {
  const answer = await asked(url);
  return [await createImageBitmap(await answer.blob()), Number(answer.headers.get(header))];
}
