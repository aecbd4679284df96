// Outlines, near: fetched by tile, drawn as lines of any width and as areas; and which cell lies under the pointer.

import earcut from "earcut";
import { bytes, type Page, type Ring } from "./api";
import type { Camera } from "./camera";
import { program, uniforms, type Uniforms } from "./gl";
import { setShading, SHADING, UNKNOWN } from "./shading";
import type { Style } from "./style";
import { TileCache } from "./tile_cache";

/** Outlines are drawn where a CSS px is at most this many um. */
export const NEAR_UM = 0.6;
const MOST_TILES = 80;
const AT_ONCE = 4;
/** Segments lie in textures so wide: six corners fetch each. Instances of four corners cost many times more. */
const WIDE = 1024;

export interface Cell {
  row: number;
  type: number;
  certainty: number;
  areaUm2: number;
  step: number;
  labelled: boolean;
  ring: Ring;
}

interface Tile {
  column: number;
  row: number;
  rows: Uint32Array;
  offsets: Uint32Array;
  certainty: Float32Array;
  area: Float32Array;
  xy: Float32Array;
  /** As the result says, and as they are drawn: 0 is not drawn. */
  given: Uint8Array;
  types: Uint8Array;
  steps: Uint8Array;
  labelled: Uint8Array;
  boxes: Float32Array;
  ends: WebGLTexture;
  kinds: WebGLTexture;
  segments: number;
  areas: WebGLVertexArrayObject | null;
  buffer: WebGLBuffer | null;
  corners: number;
}

export class OutlinesLayer {
  readonly tiles: TileCache<Tile>;
  private readonly lineProgram: WebGLProgram;
  private readonly lineAt: Uniforms;
  private readonly fillProgram: WebGLProgram;
  private readonly fillAt: Uniforms;
  private readonly nothing: WebGLVertexArrayObject;
  private labelled = new Map<number, number>();
  private steps: Uint8Array | null = null;

  constructor(
    private readonly gl: WebGL2RenderingContext,
    private readonly page: Page,
    private readonly url: string,
    changed: () => void,
  ) {
    this.tiles = new TileCache(MOST_TILES, AT_ONCE, (key) => this.fetch(key), (tile) => this.end(tile), changed);
    this.lineProgram = program(
      gl,
      `uniform highp sampler2D ends; uniform highp usampler2D kinds;
       uniform vec2 shift, halfPx; uniform float scale, width; out float side; ${SHADING}
       const int corners[6] = int[6](0, 1, 2, 2, 1, 3);
       void main() {
         int corner = corners[gl_VertexID % 6], segment = gl_VertexID / 6;
         ivec2 texel = ivec2(segment % ${WIDE}, segment / ${WIDE});
         vec4 both = texelFetch(ends, texel, 0);
         uvec4 kind = texelFetch(kinds, texel, 0);
         vec2 p = (both.xy + shift) / scale, q = (both.zw + shift) / scale;   // device px from the middle of the view
         float half_ = width * 0.5 + 0.5;
         vec2 along = normalize(q - p + vec2(1e-6, 0)), across = vec2(-along.y, along.x) * half_;
         vec2 end = corner < 2 ? p - along * width * 0.25 : q + along * width * 0.25;
         side = (corner & 1) == 0 ? half_ : -half_;
         vec2 at = end + ((corner & 1) == 0 ? across : -across);
         gl_Position = hidden(kind.r, float(kind.g) / 255.0, kind.b) ? vec4(2, 2, 2, 1) : vec4(at.x / halfPx.x, -at.y / halfPx.y, 0, 1);
       }`,
      `flat in vec4 shade; in float side; uniform float opacity, width; out vec4 colour;
       void main() { colour = vec4(shade.rgb, opacity * clamp(width * 0.5 + 0.5 - abs(side), 0.0, 1.0)); }`,
    );
    this.fillProgram = program(
      gl,
      `layout(location=0) in vec2 a; layout(location=2) in uint kind; layout(location=3) in float certainty; layout(location=4) in uint step;
       uniform vec2 shift, halfPx; uniform float scale; ${SHADING}
       void main() {
         vec2 at = (a + shift) / scale / halfPx;
         gl_Position = hidden(kind, certainty, step) ? vec4(2, 2, 2, 1) : vec4(at.x, -at.y, 0, 1);
       }`,
      `flat in vec4 shade; uniform float opacity; out vec4 colour; void main() { colour = vec4(shade.rgb, opacity); }`,
    );
    this.nothing = gl.createVertexArray()!;
    this.lineAt = uniforms(gl, this.lineProgram);
    this.fillAt = uniforms(gl, this.fillProgram);
  }

  isNear(camera: Camera): boolean {
    return camera.scale * this.page.mpp <= NEAR_UM;
  }

  /** Draw what is there; false where a tile in view is still to come. */
  draw(camera: Camera, style: Style, dpr: number): boolean {
    this.tiles.begin();
    const wanted = this.inView(camera);
    const there = wanted.map((key) => this.tiles.use(key)).filter((tile): tile is Tile => tile !== undefined);
    if (style.drawn !== "outline") this.drawAll(camera, style, dpr, there, true);
    if (style.drawn !== "fill") this.drawAll(camera, style, dpr, there, false);
    const missing = wanted.filter((key) => !this.tiles.peek(key));
    this.tiles.finish(missing);
    return missing.every((key) => this.tiles.hasFailed(key));
  }

  private drawAll(camera: Camera, style: Style, dpr: number, tiles: Tile[], fill: boolean): void {
    const { gl, page } = this;
    const at = fill ? this.fillAt : this.lineAt;
    gl.useProgram(fill ? this.fillProgram : this.lineProgram);
    setShading(gl, at, style);
    gl.uniform2f(at.halfPx, (camera.width * dpr) / 2, (camera.height * dpr) / 2);
    gl.uniform1f(at.scale, camera.scale / dpr);
    gl.uniform1f(at.opacity, style.drawn === "both" && fill ? style.opacity * 0.4 : style.opacity);
    if (!fill) gl.bindVertexArray(this.nothing);
    if (!fill) gl.uniform1i(at.kinds, 1);
    if (!fill) gl.uniform1f(at.width, dpr * (camera.scale * page.mpp < 0.3 ? 2 : 1.5));
    for (const tile of tiles) {
      // Relative to the view: far from the corner of a slide, single precision would let outlines tremble.
      gl.uniform2f(at.shift, tile.column * page.outline_tile_px - camera.x, tile.row * page.outline_tile_px - camera.y);
      if (fill) {
        if (!tile.areas) this.triangulate(tile);
        gl.bindVertexArray(tile.areas);
        gl.drawArrays(gl.TRIANGLES, 0, tile.corners);
      } else {
        gl.activeTexture(gl.TEXTURE1);
        gl.bindTexture(gl.TEXTURE_2D, tile.kinds);
        gl.activeTexture(gl.TEXTURE0);
        gl.bindTexture(gl.TEXTURE_2D, tile.ends);
        gl.drawArrays(gl.TRIANGLES, 0, 6 * tile.segments);
      }
    }
    gl.bindVertexArray(null);
  }

  /** The cell under a point of the slide. */
  find(x: number, y: number, deletedToo = false): Cell | null {
    const side = this.page.outline_tile_px;
    const [column, row] = [Math.floor(x / side), Math.floor(y / side)];
    for (let dr = -1; dr <= 1; dr++)
      for (let dc = -1; dc <= 1; dc++) {
        const tile = this.tiles.peek(`${column + dc}/${row + dr}`);
        const cell = tile && findIn(tile, x - tile.column * side, y - tile.row * side, side, deletedToo);
        if (cell) return cell;
      }
    return null;
  }

  private inView(camera: Camera): string[] {
    const { page } = this;
    const side = page.outline_tile_px;
    const [left, top, right, bottom] = camera.bounds();
    const keys: string[] = [];
    for (let row = Math.max(0, Math.floor(top / side)); row * side <= Math.min(bottom, page.height_px); row++)
      for (let column = Math.max(0, Math.floor(left / side)); column * side <= Math.min(right, page.width_px); column++)
        keys.push(`${column}/${row}`);
    return keys;
  }

  private async fetch(key: string): Promise<Tile> {
    const [column, row] = key.split("/").map(Number);
    return this.take(column, row, await bytes(`${this.url}/outlines/${key}`));
  }

  private take(column: number, row: number, data: ArrayBuffer): Tile {
    const [n, v] = new Uint32Array(data, 0, 2);
    let at = 8;
    const next = <T>(make: new (data: ArrayBuffer, at: number, length: number) => T, length: number, size: number): T => {
      at += length * size;
      return new make(data, at - length * size, length);
    };
    const rows = next(Uint32Array, n, 4);
    const offsets = next(Uint32Array, n + 1, 4);
    const certainty = next(Float32Array, n, 4);
    const area = next(Float32Array, n, 4);
    const xy = next(Float32Array, 2 * v, 4);
    const types = next(Uint8Array, n, 1);
    const boxes = new Float32Array(4 * n);
    const high = Math.max(1, Math.ceil(v / WIDE));
    const ends = new Float32Array(4 * WIDE * high);
    for (let i = 0; i < n; i++) {
      let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
      for (let j = offsets[i]; j < offsets[i + 1]; j++) {
        const k = j + 1 === offsets[i + 1] ? offsets[i] : j + 1;
        const [x, y] = [xy[2 * j], xy[2 * j + 1]];
        ends.set([x, y, xy[2 * k], xy[2 * k + 1]], 4 * j);
        [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x), Math.max(y1, y)];
      }
      boxes.set([x0, y0, x1, y1], 4 * i);
    }
    const { gl } = this;
    const tile: Tile = {
      column, row, rows, offsets, certainty, area, xy, given: types, types: types.slice(), steps: new Uint8Array(n).fill(UNKNOWN), labelled: new Uint8Array(n), boxes, segments: v,
      ends: this.texture(high, gl.RGBA32F, gl.RGBA, gl.FLOAT, ends),
      kinds: gl.createTexture()!,
      areas: null, buffer: null, corners: 0,
    };
    this.paint(tile);
    return tile;
  }

  /** Take types of labelled rows, and the steps of a measure by row, for what is drawn from now on. */
  repaint(types: Map<number, number>, steps: Uint8Array | null): void {
    [this.labelled, this.steps] = [types, steps];
    for (const tile of this.tiles.all()) this.paint(tile);
  }

  private paint(tile: Tile): void {
    tile.rows.forEach((row, i) => {
      const type = this.labelled.get(row);
      tile.types[i] = type ?? tile.given[i];
      tile.labelled[i] = type === undefined ? 0 : 1;
      tile.steps[i] = this.steps ? this.steps[row] : UNKNOWN;
    });
    const high = Math.max(1, Math.ceil(tile.segments / WIDE));
    const small = new Uint8Array(4 * WIDE * high);
    for (let i = 0; i < tile.rows.length; i++)
      for (let j = tile.offsets[i]; j < tile.offsets[i + 1]; j++) small.set([tile.types[i], Math.round(255 * tile.certainty[i]), tile.steps[i]], 4 * j);
    const { gl } = this;
    gl.deleteTexture(tile.kinds);
    tile.kinds = this.texture(high, gl.RGBA8UI, gl.RGBA_INTEGER, gl.UNSIGNED_BYTE, small);
    gl.deleteVertexArray(tile.areas);
    gl.deleteBuffer(tile.buffer);
    [tile.areas, tile.buffer] = [null, null];
  }

  /** Outlines of some rows, of those that are there. */
  rings(rows: Set<number>, most: number): Ring[] {
    const found: Ring[] = [];
    if (rows.size)
      for (const tile of this.tiles.all())
        for (let i = 0; i < tile.rows.length && found.length < most; i++)
          if (rows.has(tile.rows[i])) found.push(ringOf(tile, i, this.page.outline_tile_px));
    return found;
  }

  /** The cell whose box has its middle nearest to a point of the slide, of those that are there. */
  nearest(x: number, y: number): Cell | null {
    const side = this.page.outline_tile_px;
    let [best, found]: [number, [Tile, number] | null] = [Infinity, null];
    for (const tile of this.tiles.all())
      for (let i = 0; i < tile.rows.length; i++) {
        const [x0, y0, x1, y1] = tile.boxes.subarray(4 * i, 4 * i + 4);
        const away = Math.hypot((x0 + x1) / 2 + tile.column * side - x, (y0 + y1) / 2 + tile.row * side - y);
        if (away < best) [best, found] = [away, [tile, i]];
      }
    return found && cellOf(...found, side);
  }

  private triangulate(tile: Tile): void {
    const corners: number[] = [];
    const owners: number[] = [];
    for (let i = 0; i < tile.rows.length; i++) {
      const start = tile.offsets[i];
      for (const corner of earcut(tile.xy.subarray(2 * start, 2 * tile.offsets[i + 1]))) {
        corners.push(start + corner);
        owners.push(i);
      }
    }
    const data = new ArrayBuffer(12 * corners.length);
    const [floats, small] = [new Float32Array(data), new Uint8Array(data)];
    corners.forEach((corner, n) => {
      floats[3 * n] = tile.xy[2 * corner];
      floats[3 * n + 1] = tile.xy[2 * corner + 1];
      small[12 * n + 8] = tile.types[owners[n]];
      small[12 * n + 9] = Math.round(255 * tile.certainty[owners[n]]);
      small[12 * n + 10] = tile.steps[owners[n]];
    });
    const { gl } = this;
    tile.corners = corners.length;
    tile.areas = gl.createVertexArray()!;
    tile.buffer = gl.createBuffer()!;
    gl.bindVertexArray(tile.areas);
    gl.bindBuffer(gl.ARRAY_BUFFER, tile.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 12, 0);
    gl.vertexAttribIPointer(2, 1, gl.UNSIGNED_BYTE, 12, 8);
    gl.vertexAttribPointer(3, 1, gl.UNSIGNED_BYTE, true, 12, 9);
    gl.vertexAttribIPointer(4, 1, gl.UNSIGNED_BYTE, 12, 10);
    for (const i of [0, 2, 3, 4]) gl.enableVertexAttribArray(i);
    gl.bindVertexArray(null);
  }

  private texture(high: number, inside: number, format: number, type: number, data: ArrayBufferView): WebGLTexture {
    const { gl } = this;
    const made = gl.createTexture()!;
    gl.bindTexture(gl.TEXTURE_2D, made);
    gl.texImage2D(gl.TEXTURE_2D, 0, inside, WIDE, high, 0, format, type, data);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    return made;
  }

  private end(tile: Tile): void {
    this.gl.deleteTexture(tile.ends);
    this.gl.deleteTexture(tile.kinds);
    this.gl.deleteVertexArray(tile.areas);
    this.gl.deleteBuffer(tile.buffer);
  }
}

function findIn(tile: Tile, x: number, y: number, side: number, deletedToo: boolean): Cell | null {
  for (let i = 0; i < tile.rows.length; i++) {
    const [x0, y0, x1, y1] = tile.boxes.subarray(4 * i, 4 * i + 4);
    if (x < x0 || x > x1 || y < y0 || y > y1) continue;
    if (tile.types[i] === 0 && !deletedToo) continue; // it was said to be none
    const cell = cellOf(tile, i, side);
    if (inside(cell.ring, x + tile.column * side, y + tile.row * side)) return cell;
  }
  return null;
}

function ringOf(tile: Tile, i: number, side: number): Ring {
  const ring: Ring = [];
  for (let j = tile.offsets[i]; j < tile.offsets[i + 1]; j++) ring.push([tile.xy[2 * j] + tile.column * side, tile.xy[2 * j + 1] + tile.row * side]);
  return ring;
}

function cellOf(tile: Tile, i: number, side: number): Cell {
  return {
    row: tile.rows[i], type: tile.types[i], certainty: tile.certainty[i], areaUm2: tile.area[i], step: tile.steps[i],
    labelled: tile.labelled[i] === 1, ring: ringOf(tile, i, side),
  };
}

export function inside(ring: Ring, x: number, y: number): boolean {
  let odd = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
    const [[xi, yi], [xj, yj]] = [ring[i], ring[j]];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}
