// All cells as points. Chunk by chunk, so that what is out of view costs nothing; of many in view the first part of each
// chunk, which is in random order, so that densities stay true.

import { bytes } from "./api";
import type { Camera } from "./camera";
import { program, uniforms, type Uniforms } from "./gl";
import { setShading, SHADING } from "./shading";
import type { Style } from "./style";

const POINT_BYTES = 16;
const [TYPE_AT, SHADE_AT] = [8, 10];
/** From so many points on, all are sent again at once. */
const MANY = 2_000;
const DIAMETER_UM = 7;

interface Chunk {
  column: number;
  row: number;
  first: number;
  count: number;
}

export class PointsLayer {
  /** Share of the cells in view that was drawn last. */
  share = 1;
  total = 0;
  problem = "";
  loaded = false;
  private chunks: Chunk[] = [];
  private points = new Uint8Array(0);
  /** Row of the table of each point, and the type that the result gave it. */
  private rows = new Uint32Array(0);
  private given = new Uint8Array(0);
  private readonly relabelled = new Set<number>();
  private readonly buffer: WebGLBuffer;
  private side = 1;
  private readonly program: WebGLProgram;
  private readonly at: Uniforms;
  private readonly vertices: WebGLVertexArrayObject;

  constructor(
    private readonly gl: WebGL2RenderingContext,
    private readonly mpp: number,
  ) {
    this.program = program(
      gl,
      `layout(location=0) in vec2 xy; layout(location=1) in uint kind; layout(location=2) in float certainty; layout(location=3) in uint step;
       uniform vec2 middle, halfSize; uniform float size; ${SHADING}
       void main() {
         vec2 p = (xy - middle) / halfSize;
         gl_Position = hidden(kind, certainty, step) ? vec4(2, 2, 2, 1) : vec4(p.x, -p.y, 0, 1);
         gl_PointSize = size;
       }`,
      `flat in vec4 shade; uniform float opacity, size; out vec4 colour;
       void main() {
         float edge = size > 3.0 ? clamp((0.5 - length(gl_PointCoord - 0.5)) * size, 0.0, 1.0) : 1.0;
         if (edge == 0.0) discard;
         colour = vec4(shade.rgb, opacity * edge);
       }`,
    );
    this.at = uniforms(gl, this.program);
    this.vertices = gl.createVertexArray()!;
    this.buffer = gl.createBuffer()!;
  }

  async load(url: string): Promise<void> {
    const { gl } = this;
    try {
      const data = await bytes(`${url}/points`);
      const [count, side] = new Uint32Array(data, 0, 2);
      this.side = side;
      const table = new Uint32Array(data, 8, 3 * count);
      for (let i = 0; i < count; i++) {
        this.chunks.push({ column: table[3 * i], row: table[3 * i + 1], first: this.total, count: table[3 * i + 2] });
        this.total += table[3 * i + 2];
      }
      this.points = new Uint8Array(data, 8 + 12 * count);
      this.rows = new Uint32Array(this.points.length / POINT_BYTES);
      const view = new DataView(data, 8 + 12 * count);
      for (let i = 0; i < this.rows.length; i++) this.rows[i] = view.getUint32(i * POINT_BYTES + 12, true);
      this.given = new Uint8Array(this.rows.length);
      for (let i = 0; i < this.rows.length; i++) this.given[i] = this.points[i * POINT_BYTES + TYPE_AT];
      gl.bindVertexArray(this.vertices);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
      gl.bufferData(gl.ARRAY_BUFFER, this.points, gl.DYNAMIC_DRAW);
      gl.enableVertexAttribArray(0);
      gl.vertexAttribPointer(0, 2, gl.FLOAT, false, POINT_BYTES, 0);
      gl.enableVertexAttribArray(1);
      gl.vertexAttribIPointer(1, 1, gl.UNSIGNED_BYTE, POINT_BYTES, 8);
      gl.enableVertexAttribArray(2);
      gl.vertexAttribPointer(2, 1, gl.UNSIGNED_BYTE, true, POINT_BYTES, 9);
      gl.enableVertexAttribArray(3);
      gl.vertexAttribIPointer(3, 1, gl.UNSIGNED_BYTE, POINT_BYTES, SHADE_AT);
      gl.bindVertexArray(null);
      this.loaded = true;
    } catch (error) {
      this.problem = (error as Error).message;
    }
  }

  /** Give labelled cells their type, and those that were labelled before their own again. */
  relabel(types: Map<number, number>): void {
    if (!this.loaded || (!types.size && !this.relabelled.size)) return;
    const changed: number[] = [];
    for (let i = 0; i < this.rows.length; i++) {
      const type = types.get(this.rows[i]);
      if (type === undefined && !this.relabelled.has(i)) continue;
      const wanted = type ?? this.given[i];
      if (this.points[i * POINT_BYTES + TYPE_AT] !== wanted) changed.push(i);
      this.points[i * POINT_BYTES + TYPE_AT] = wanted;
      if (type === undefined) this.relabelled.delete(i);
      else this.relabelled.add(i);
    }
    this.send(changed);
  }

  /** Take the step of a measure of each row. */
  shade(steps: Uint8Array): void {
    if (!this.loaded) return;
    for (let i = 0; i < this.rows.length; i++) this.points[i * POINT_BYTES + SHADE_AT] = steps[this.rows[i]];
    this.send(null);
  }

  private send(changed: number[] | null): void {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    if (changed && changed.length < MANY)
      for (const i of changed) gl.bufferSubData(gl.ARRAY_BUFFER, i * POINT_BYTES, this.points, i * POINT_BYTES, POINT_BYTES);
    else gl.bufferData(gl.ARRAY_BUFFER, this.points, gl.DYNAMIC_DRAW);
  }

  draw(camera: Camera, style: Style, dpr: number, budget: number): void {
    const { gl, side } = this;
    if (!this.loaded || this.total === 0) return;
    const [left, top, right, bottom] = camera.bounds();
    const seen = this.chunks.filter(
      (c) => c.column * side <= right && (c.column + 1) * side >= left && c.row * side <= bottom && (c.row + 1) * side >= top,
    );
    const count = seen.reduce((sum, c) => sum + c.count, 0);
    this.share = Math.min(1, budget / Math.max(1, count));
    const diameter = DIAMETER_UM / this.mpp / camera.scale;
    const size = dpr * Math.min(9, Math.max(1.6, diameter));
    gl.useProgram(this.program);
    setShading(gl, this.at, style);
    gl.uniform2f(this.at.middle, camera.x, camera.y);
    gl.uniform2f(this.at.halfSize, (camera.width * camera.scale) / 2, (camera.height * camera.scale) / 2);
    gl.uniform1f(this.at.size, size);
    gl.uniform1f(this.at.opacity, style.opacity);
    gl.bindVertexArray(this.vertices);
    for (const chunk of seen) gl.drawArrays(gl.POINTS, chunk.first, Math.ceil(chunk.count * this.share));
    gl.bindVertexArray(null);
  }
}
