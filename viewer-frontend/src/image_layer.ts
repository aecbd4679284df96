// The slide itself: tiles of the level that fits the zoom, over those of coarser levels until they come.

import { picture, type Page } from "./api";
import type { Camera } from "./camera";
import { program, uniforms, type Uniforms } from "./gl";
import { TileCache } from "./tile_cache";

const MOST_TILES = 160;
const AT_ONCE = 6;

interface Tile {
  texture: WebGLTexture;
  width: number;
  height: number;
}

export class ImageLayer {
  readonly tiles: TileCache<Tile>;
  private readonly program: WebGLProgram;
  private readonly at: Uniforms;
  private readonly nothing: WebGLVertexArrayObject;

  constructor(
    private readonly gl: WebGL2RenderingContext,
    private readonly page: Page,
    private readonly url: string,
    changed: () => void,
  ) {
    this.tiles = new TileCache(MOST_TILES, AT_ONCE, (key) => this.fetch(key), ({ texture }) => gl.deleteTexture(texture), changed);
    this.program = program(
      gl,
      `uniform vec4 box; out vec2 uv;
       void main() { uv = vec2(gl_VertexID & 1, gl_VertexID >> 1); vec2 p = mix(box.xy, box.zw, uv); gl_Position = vec4(p, 0, 1); }`,
      `uniform sampler2D image; in vec2 uv; out vec4 colour; void main() { colour = texture(image, uv); }`,
    );
    this.at = uniforms(gl, this.program);
    this.nothing = gl.createVertexArray()!;
  }

  draw(camera: Camera, dpr: number): void {
    if (this.page.levels === 0) return;
    this.tiles.begin();
    const { gl } = this;
    gl.useProgram(this.program);
    gl.bindVertexArray(this.nothing);
    const top = this.page.levels - 1;
    const level = Math.min(top, Math.max(0, Math.floor(Math.log2(camera.scale / dpr) + 0.3)));
    const wanted: string[] = [];
    for (let z = top; z >= level; z--) {
      for (const [column, row] of this.seen(camera, z)) {
        const key = `${z}/${column}/${row}`;
        const tile = this.tiles.use(key);
        if (tile) this.drawTile(camera, tile, z, column, row);
        else if (z === level || z === top) wanted.push(key);
      }
    }
    this.tiles.finish(wanted);
  }

  private seen(camera: Camera, z: number): [number, number][] {
    const size = this.page.tile_px * 2 ** z;
    const [left, top, right, bottom] = camera.bounds();
    const found: [number, number][] = [];
    const last = (of: number): number => Math.ceil(of / size) - 1;
    for (let row = Math.max(0, Math.floor(top / size)); row <= Math.min(last(this.page.height_px), Math.floor(bottom / size)); row++)
      for (let column = Math.max(0, Math.floor(left / size)); column <= Math.min(last(this.page.width_px), Math.floor(right / size)); column++)
        found.push([column, row]);
    const middle = ([c, r]: [number, number]): number => Math.hypot((c + 0.5) * size - camera.x, (r + 0.5) * size - camera.y);
    return found.sort((a, b) => middle(a) - middle(b));
  }

  private drawTile(camera: Camera, tile: Tile, z: number, column: number, row: number): void {
    const { gl, page } = this;
    const [scale, size] = [2 ** z, page.tile_px * 2 ** z];
    const [x0, y0] = camera.toScreen(column * size, row * size);
    const [x1, y1] = camera.toScreen(column * size + tile.width * scale, row * size + tile.height * scale);
    const clip = (x: number, y: number): [number, number] => [(2 * x) / camera.width - 1, 1 - (2 * y) / camera.height];
    gl.uniform4f(this.at.box, ...clip(x0, y0), ...clip(x1, y1));
    gl.bindTexture(gl.TEXTURE_2D, tile.texture);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  private async fetch(key: string): Promise<Tile> {
    const image = await picture(`${this.url}/tiles/${key}.jpg`);
    const tile = { texture: this.upload(image), width: image.width, height: image.height };
    image.close();
    return tile;
  }

  private upload(image: ImageBitmap): WebGLTexture {
    const { gl } = this;
    const texture = gl.createTexture()!;
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    return texture;
  }
}
