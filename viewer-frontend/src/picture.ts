// The view as a picture: slide, cells, regions, scale, legend, and what it is not for.

import type { Page } from "./api";
import { count, number } from "./dom";
import type { MeasureRange } from "./measure_panel";
import { RAMP } from "./shading";
import type { Style } from "./style";

const LEGEND_PX = 190;

export function drawPicture(layers: HTMLCanvasElement[], page: Page, style: Style, range: MeasureRange | null, dpr: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  const [width, height] = [layers[0].width, layers[0].height];
  const kinds = style.kinds.filter((kind) => !style.off.has(kind.id));
  canvas.width = width + LEGEND_PX * dpr;
  canvas.height = Math.max(height, (110 + 22 * kinds.length) * dpr);
  const context = canvas.getContext("2d")!;
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const layer of layers) context.drawImage(layer, 0, 0);
  context.setTransform(dpr, 0, 0, dpr, width, 0);
  context.textBaseline = "middle";
  context.fillStyle = "#111111";
  context.font = "600 13px system-ui, sans-serif";
  context.fillText("Nuclei on the slide", 12, 20);
  context.font = "13px system-ui, sans-serif";
  let y = 46;
  if (style.cells && style.measure && range) {
    context.fillText(style.measure, 12, y, LEGEND_PX - 20);
    RAMP.forEach(([r, g, b], i) => {
      context.fillStyle = `rgb(${r} ${g} ${b})`;
      context.fillRect(12 + 16 * i, y + 12, 16, 12);
    });
    context.fillStyle = "#111111";
    context.fillText(`${number(range.low)} to ${number(range.high)}`, 12, y + 36, LEGEND_PX - 20);
    y += 60;
  }
  for (const kind of style.cells && !style.measure ? kinds : []) {
    context.fillStyle = style.css(kind);
    context.fillRect(12, y - 6, 12, 12);
    context.fillStyle = "#111111";
    context.fillText(`${kind.name} ${count(page.types[kind.name] ?? 0)}`, 32, y);
    y += 22;
  }
  context.font = "11px system-ui, sans-serif";
  for (const line of [page.model, "For research use only;", "not for diagnosis."]) {
    y += 16;
    context.fillText(line, 12, y, LEGEND_PX - 20);
  }
  return canvas;
}
