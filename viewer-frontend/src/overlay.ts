// What lies over the cells: tissue, regions, the cell pointed at, the scale bar.

import type { Ring } from "./api";
import type { Outline } from "./layers";
import { lengthText, roundLength, type Camera } from "./camera";

/** Changed places are circles so wide, and at least so many px. */
const [MARK_UM, MARK_PX] = [7, 3];

export interface Shapes {
  density: { image: ImageBitmap; width: number; height: number } | null;
  outlines: Outline[];
  chosen: Ring[];
  marks: [number, number][];
  regions: { name: string; path: Path2D; at: [number, number] }[];
  drawing: Ring;
  pointed: Ring | null;
  pinned: Ring | null;
}

export function drawOverlay(context: CanvasRenderingContext2D, camera: Camera, dpr: number, mpp: number, shapes: Shapes): void {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  const px = camera.scale; // level-0 px per CSS px: widths of lines are given in these
  const k = dpr / camera.scale;
  context.setTransform(k, 0, 0, k, (camera.width * dpr) / 2 - camera.x * k, (camera.height * dpr) / 2 - camera.y * k);
  context.lineJoin = "round";
  if (shapes.density) context.drawImage(shapes.density.image, 0, 0, shapes.density.width, shapes.density.height);
  for (const outline of shapes.outlines) {
    if (outline.filled) {
      context.fillStyle = `color-mix(in srgb, ${outline.colour} 25%, transparent)`;
      context.fill(outline.path, "evenodd");
    }
    stroke(context, outline.path, "#ffffff", 3.5 * px);
    stroke(context, outline.path, outline.colour, 2 * px);
  }
  drawMarks(context, camera, mpp, shapes.marks);
  for (const region of shapes.regions) {
    stroke(context, region.path, "#ffffff", 4 * px);
    stroke(context, region.path, "#111111", 2 * px);
  }
  if (shapes.drawing.length > 1) {
    const line = ringPath(shapes.drawing, false);
    stroke(context, line, "#ffffff", 4 * px);
    context.setLineDash([6 * px, 4 * px]);
    stroke(context, line, "#111111", 2 * px);
    context.setLineDash([]);
  }
  for (const ring of shapes.chosen) {
    stroke(context, ringPath(ring, true), "#111111", 5 * px);
    stroke(context, ringPath(ring, true), "#ffe100", 3 * px);
  }
  for (const [ring, width] of [[shapes.pinned, 3], [shapes.pointed, 2]] as const) {
    if (!ring) continue;
    stroke(context, ringPath(ring, true), "#111111", (width + 2) * px);
    stroke(context, ringPath(ring, true), "#ffffff", width * px);
  }
  context.setTransform(dpr, 0, 0, dpr, 0, 0);
  for (const outline of shapes.outlines) if (outline.name) label(context, outline.name, ...camera.toScreen(...outline.at));
  for (const region of shapes.regions) label(context, region.name, ...camera.toScreen(...region.at));
  drawScaleBar(context, camera, mpp);
}

function drawMarks(context: CanvasRenderingContext2D, camera: Camera, mpp: number, marks: [number, number][]): void {
  const radius = Math.max(MARK_UM / mpp, MARK_PX * camera.scale);
  const [left, top, right, bottom] = camera.bounds();
  const path = new Path2D();
  for (const [x, y] of marks) {
    if (x < left - radius || x > right + radius || y < top - radius || y > bottom + radius) continue;
    path.moveTo(x + radius, y);
    path.arc(x, y, radius, 0, 2 * Math.PI);
  }
  stroke(context, path, "#ffffff", 3 * camera.scale);
  stroke(context, path, "#111111", 1.2 * camera.scale);
}

function stroke(context: CanvasRenderingContext2D, path: Path2D, colour: string, width: number): void {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke(path);
}

function ringPath(ring: Ring, close: boolean): Path2D {
  const path = new Path2D();
  ring.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
  if (close) path.closePath();
  return path;
}

function label(context: CanvasRenderingContext2D, text: string, x: number, y: number): void {
  context.font = "600 13px system-ui, sans-serif";
  context.textBaseline = "bottom";
  const width = context.measureText(text).width;
  context.fillStyle = "#ffffffe6";
  context.fillRect(x - 1, y - 20, width + 8, 18);
  context.fillStyle = "#111111";
  context.fillText(text, x + 3, y - 4);
}

function drawScaleBar(context: CanvasRenderingContext2D, camera: Camera, mpp: number): void {
  const um = roundLength(140 * camera.scale * mpp);
  const length = um / mpp / camera.scale;
  const [x, y] = [16, camera.height - 18];
  context.fillStyle = "#ffffffe6";
  context.fillRect(x - 8, y - 26, Math.max(length, 60) + 16, 38);
  context.fillStyle = "#111111";
  context.fillRect(x, y, length, 4);
  context.font = "600 13px system-ui, sans-serif";
  context.textBaseline = "bottom";
  context.fillText(lengthText(um), x, y - 4);
}
