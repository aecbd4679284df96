// The whole slide, small, and where the view is in it.

import { picture, type Page } from "./api";
import type { Camera } from "./camera";
import { h } from "./dom";

const LONGEST_PX = 150;

export class OverviewMap {
  readonly element = h("canvas", { className: "map", "aria-hidden": "true", title: "The whole slide: click to go there" });
  private readonly context = this.element.getContext("2d")!;
  private readonly scale: number;
  private image: ImageBitmap | null = null;

  constructor(
    private readonly page: Page,
    url: string,
    goTo: (x: number, y: number) => void,
    changed: () => void,
  ) {
    this.scale = Math.max(page.width_px, page.height_px) / LONGEST_PX;
    this.element.width = Math.max(1, Math.round(page.width_px / this.scale));
    this.element.height = Math.max(1, Math.round(page.height_px / this.scale));
    const go = (event: PointerEvent): void => {
      if (event.buttons) goTo(event.offsetX * this.scale, event.offsetY * this.scale);
    };
    this.element.onpointerdown = go;
    this.element.onpointermove = go;
    if (page.levels > 0)
      void picture(`${url}/tiles/${page.levels - 1}/0/0.jpg`).then(
        (image) => {
          this.image = image;
          changed();
        },
        () => undefined, // the slide's own tiles say why
      );
  }

  draw(camera: Camera): void {
    const { context, element, scale } = this;
    const [left, top, right, bottom] = camera.bounds();
    element.hidden = left <= 0 && top <= 0 && right >= this.page.width_px && bottom >= this.page.height_px;
    if (element.hidden) return;
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, element.width, element.height);
    if (this.image) context.drawImage(this.image, 0, 0, element.width, element.height);
    const box = [left / scale, top / scale, Math.max(4, (right - left) / scale), Math.max(4, (bottom - top) / scale)] as const;
    for (const [colour, width] of [["#ffffff", 4], ["#b00020", 2]] as const) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(...box);
    }
  }
}
