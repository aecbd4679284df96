// Which part of the slide is seen. Level-0 px on the slide, CSS px on the screen.

export class Camera {
  x = 0;
  y = 0;
  /** Level-0 px per CSS px. */
  scale = 1;
  width = 1;
  height = 1;

  constructor(
    readonly slideWidth: number,
    readonly slideHeight: number,
  ) {}

  resize(width: number, height: number): void {
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
  }

  fit(): void {
    this.x = this.slideWidth / 2;
    this.y = this.slideHeight / 2;
    this.scale = Math.max(this.slideWidth / this.width, this.slideHeight / this.height) * 1.04;
  }

  private coarsest(): number {
    return 2 * Math.max(1, this.slideWidth / this.width, this.slideHeight / this.height);
  }

  toSlide(sx: number, sy: number): [number, number] {
    return [this.x + (sx - this.width / 2) * this.scale, this.y + (sy - this.height / 2) * this.scale];
  }

  toScreen(x: number, y: number): [number, number] {
    return [(x - this.x) / this.scale + this.width / 2, (y - this.y) / this.scale + this.height / 2];
  }

  /** Left, top, right and bottom of what is seen. */
  bounds(): [number, number, number, number] {
    return [...this.toSlide(0, 0), ...this.toSlide(this.width, this.height)] as [number, number, number, number];
  }

  pan(dx: number, dy: number): void {
    this.x = clamp(this.x - dx * this.scale, 0, this.slideWidth);
    this.y = clamp(this.y - dy * this.scale, 0, this.slideHeight);
  }

  /** Change the scale by a factor; what lies under a point of the screen stays there. */
  zoom(factor: number, sx = this.width / 2, sy = this.height / 2): void {
    const [x, y] = this.toSlide(sx, sy);
    this.scale = clamp(this.scale * factor, 1 / 16, this.coarsest());
    const [nx, ny] = this.toSlide(sx, sy);
    this.x = clamp(this.x + x - nx, 0, this.slideWidth);
    this.y = clamp(this.y + y - ny, 0, this.slideHeight);
  }
}

export function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}

/** A length in um that is 1, 2 or 5 times a power of ten, at most `longest`. */
export function roundLength(longest: number): number {
  const power = 10 ** Math.floor(Math.log10(longest));
  return [5, 2, 1].map((n) => n * power).find((n) => n <= longest * 1.000001) ?? power;
}

export function lengthText(um: number): string {
  return um >= 1000 ? `${um / 1000} mm` : `${Number(um.toPrecision(3))} µm`;
}
