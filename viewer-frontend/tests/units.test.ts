import { describe, expect, it } from "vitest";
import type { Card, Kind } from "../src/api";
import { Camera, lengthText, roundLength } from "../src/camera";
import { number } from "../src/dom";
import { columns, fits } from "../src/gallery";
import { DELETED, Labels } from "../src/labels";
import { inside } from "../src/outlines_layer";
import { Style } from "../src/style";
import { TileCache } from "../src/tile_cache";
import { restore, written } from "../src/view_link";

function camera(): Camera {
  const made = new Camera(40_000, 30_000);
  made.resize(1000, 600);
  made.fit();
  return made;
}

describe("camera", () => {
  it("keeps what lies under the pointer while it zooms", () => {
    const view = camera();
    const before = view.toSlide(700, 350);
    view.zoom(0.3, 700, 350);
    view.toSlide(700, 350).forEach((value, i) => expect(value).toBeCloseTo(before[i], 6));
    expect(view.toScreen(...before)[0]).toBeCloseTo(700, 6);
  });
  it("shows all of the slide when it fits, and never leaves it", () => {
    const view = camera();
    const [left, top, right, bottom] = view.bounds();
    expect(Math.max(left, top)).toBeLessThan(0);
    expect(right).toBeGreaterThan(40_000);
    expect(bottom).toBeGreaterThan(30_000);
    view.pan(1e9, -1e9);
    expect([view.x, view.y]).toEqual([0, 30_000]);
    for (let i = 0; i < 100; i++) view.zoom(0.5);
    expect(view.scale).toBe(1 / 16);
  });
});

describe("scale bar", () => {
  it.each([[140, 100, "100 µm"], [49, 20, "20 µm"], [5000, 5000, "5 mm"], [0.3, 0.2, "0.2 µm"], [2.1, 2, "2 µm"]])(
    "of %d um at most is %d um",
    (longest, length, text) => {
      expect(roundLength(longest)).toBeCloseTo(length, 9);
      expect(lengthText(roundLength(longest))).toBe(text);
    },
  );
});

it("numbers keep their digits, and say what is unknown", () => {
  expect([9174.77, 0.0094999, 3463.4, 62, null, NaN].map((n) => number(n))).toEqual(["9,175", "0.0095", "3,463", "62", "–", "–"]);
});

describe("filter", () => {
  const card = (name: string, cells: number): Card => ({
    name, cells, slide: `${name}.svs`, model: "m", finished: "", tissue_mm2: 1, cells_per_mm2: cells, types: { dead: 1 }, warnings: ["pale stain"],
  });
  const broken = { name: "c", error: "c is damaged" } as Card;
  const cards = [card("Alpha", 10), card("beta", 5000), broken];
  const found = (query: string): string[] => cards.filter((c) => fits(c, query, columns(cards))).map((c) => c.name);
  it.each([
    ["", ["Alpha", "beta", "c"]],
    ["alpha", ["Alpha"]],
    ["pale m", ["Alpha", "beta"]],
    ["damaged", ["c"]],
    ["nuclei > 100", ["beta"]],
    ["NUCLEI<100", ["Alpha", "c"]],
    ["dead > 0.05", ["Alpha"]],
    ["nothing > 3", []],
  ])("%j", (query, wanted) => expect(found(query)).toEqual(wanted));
});

it("a point is in a ring that is not convex, or not", () => {
  const ring: [number, number][] = [[0, 0], [10, 0], [10, 10], [5, 2], [0, 10]];
  expect([[1, 5], [9, 5], [5, 1]].every(([x, y]) => inside(ring, x, y))).toBe(true);
  expect([[5, 5], [11, 5], [-1, 0]].some(([x, y]) => inside(ring, x, y))).toBe(false);
});

describe("address", () => {
  const kinds: Kind[] = [1, 2, 3].map((id) => ({ id, name: `k${id}`, colour: [id, 0, 0], safe_colour: [0, id, 0] }));
  it("holds a view and gives it back", () => {
    const [view, style] = [camera(), new Style(kinds)];
    Object.assign(view, { x: 1234.5, y: 99, scale: 0.125 });
    Object.assign(style, { drawn: "fill", opacity: 0.4, least: 0.55, safe: true, tissue: true, image: false });
    style.off.add(2);
    const [again, looks] = [camera(), new Style(kinds)];
    expect(restore(new URLSearchParams(written(view, style)), again, looks)).toBe(true);
    expect(written(again, looks)).toBe(written(view, style));
    expect([again.x, again.y, again.scale, [...looks.off], looks.image]).toEqual([1234.5, 99, 0.125, [2], false]);
  });
  it("holds a measure, its range and layers", () => {
    const [view, style] = [camera(), new Style(kinds)];
    Object.assign(style, { measure: "p_dead", from: 0.25, to: 0.5, density: "a b", artefacts: true });
    const [again, looks] = [camera(), new Style(kinds)];
    restore(new URLSearchParams(written(view, style)), again, looks);
    expect([looks.measure, looks.from, looks.to, looks.density, looks.artefacts, looks.compartments]).toEqual(["p_dead", 0.25, 0.5, "a b", true, false]);
  });
  it.each(["", "x=a&y=1&s=1", "x=1&y=1&s=0", "x=99999999&y=1&s=1", "draw=evil&o=7&p=-1"])("%j changes nothing", (text) => {
    const [view, style] = [camera(), new Style(kinds)];
    const before = written(view, style);
    expect(restore(new URLSearchParams(text), view, style)).toBe(false);
    expect(written(view, style)).toBe(before);
  });
});

describe("tiles", () => {
  it("come a few at a time, and those that were not seen for longest go", async () => {
    const ended: string[] = [];
    const cache = new TileCache(2, 2, async (key) => key.toUpperCase(), (tile) => ended.push(tile), () => undefined);
    const frame = async (...keys: string[]): Promise<(string | undefined)[]> => {
      cache.begin();
      const got = keys.map((key) => cache.use(key));
      cache.finish(keys.filter((key) => !cache.peek(key)));
      await new Promise((done) => setTimeout(done));
      return got;
    };
    expect(await frame("a", "b", "c")).toEqual([undefined, undefined, undefined]);
    expect(await frame("a", "b", "c")).toEqual(["A", "B", undefined]); // two at a time
    expect(await frame("a", "b", "c")).toEqual(["A", "B", "C"]); // three are in view: none goes
    expect(ended).toEqual([]);
    await frame("b", "c");
    expect(ended).toEqual(["A"]);
    expect(cache.peek("a")).toBeUndefined();
  });
  it("that cannot be had are asked for once, and the reason is told", async () => {
    let asked = 0;
    let changed = 0;
    const cache = new TileCache(2, 2, () => (asked++, Promise.reject(new Error("gone"))), () => undefined, () => changed++);
    for (let i = 0; i < 3; i++) {
      cache.begin();
      cache.finish(["a"]);
      await new Promise((done) => setTimeout(done));
    }
    expect([asked, changed, cache.problem, cache.hasFailed("a"), cache.waiting]).toEqual([1, 1, "gone", true, 0]);
  });
});

it("types of one's own have names and ids of their own, and what is no name is none", () => {
  const style = new Style([{ id: 7, name: "dead", colour: [1, 2, 3], safe_colour: [1, 2, 3] }]);
  const labels = new Labels("", style, () => undefined);
  expect(["Plasma:  Cell", "plasma cell", "DEAD", " ", "ignore*"].map((name) => labels.addType(name))).toEqual(["plasma cell", "plasma cell", "dead", "", ""]);
  expect(style.kinds.map((kind) => [kind.id, kind.name])).toEqual([[7, "dead"], [8, "plasma cell"]]);
  labels.names = new Map([[3, "plasma cell"], [4, DELETED]]);
  expect([...labels.types()]).toEqual([[3, 8], [4, 0]]);
});
