// The view as the end of an address, and back.

import type { Camera } from "./camera";
import type { Drawn, Style } from "./style";

const LAYERS = ["image", "cells", "tissue", "regions"] as const;
const MORE = ["artefacts", "compartments"] as const; // added later: on where they are named

export function written(camera: Camera, style: Style): string {
  const round = (value: number, digits: number): string => String(Number(value.toFixed(digits)));
  const parts = new URLSearchParams({ x: round(camera.x, 1), y: round(camera.y, 1), s: round(camera.scale, 4) });
  if (style.off.size) parts.set("off", [...style.off].join("."));
  if (style.drawn !== "outline") parts.set("draw", style.drawn);
  if (style.opacity !== 0.9) parts.set("o", String(style.opacity));
  if (style.least) parts.set("p", String(style.least));
  if (style.safe) parts.set("safe", "1");
  if (style.measure) parts.set("by", style.measure);
  if (style.measure && (style.from > 0 || style.to < 1)) parts.set("range", `${round(style.from, 3)}-${round(style.to, 3)}`);
  if (style.density) parts.set("density", style.density);
  const more = MORE.filter((layer) => style[layer]);
  if (more.length) parts.set("show", more.join("."));
  const hidden = LAYERS.filter((layer) => !style[layer]);
  parts.set("hide", hidden.join("."));
  return parts.toString();
}

/** Take a view from an address; false where it names no place. */
export function restore(given: URLSearchParams, camera: Camera, style: Style): boolean {
  for (const id of (given.get("off") ?? "").split(".").filter(Boolean)) style.off.add(Number(id));
  const drawn = given.get("draw") as Drawn | null;
  if (drawn && ["outline", "fill", "both"].includes(drawn)) style.drawn = drawn;
  style.opacity = within(given.get("o"), 0.1, 1) ?? style.opacity;
  style.least = within(given.get("p"), 0, 1) ?? style.least;
  style.safe = given.get("safe") === "1";
  if (given.has("hide")) for (const layer of LAYERS) style[layer] = !given.get("hide")!.split(".").includes(layer);
  style.measure = given.get("by") ?? "";
  const range = /^([\d.]+)-([\d.]+)$/.exec(given.get("range") ?? "");
  if (range && within(range[1], 0, 1) !== null && within(range[2], 0, 1) !== null) [style.from, style.to] = [Number(range[1]), Number(range[2])];
  style.density = given.get("density") ?? "";
  for (const layer of MORE) style[layer] = (given.get("show") ?? "").split(".").includes(layer);
  const [x, y] = [within(given.get("x"), 0, camera.slideWidth), within(given.get("y"), 0, camera.slideHeight)];
  const scale = within(given.get("s"), 1 / 16, 1e5);
  if (x === null || y === null || scale === null) return false;
  Object.assign(camera, { x, y, scale });
  return true;
}

function within(text: string | null, least: number, most: number): number | null {
  const value = Number(text);
  return text && value >= least && value <= most ? value : null;
}
