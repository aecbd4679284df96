// The colour of a cell, the same for points and outlines: by its type, or by the step of a measure; and which are hidden.

import type { Uniforms } from "./gl";
import type { Style } from "./style";

/** Steps of a measure from its least to its most; 255 is of cells that have none. */
export const STEPS = 254;
export const UNKNOWN = 255;

/** Viridis, dark to light for any colour vision. */
export const RAMP: [number, number, number][] = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
];

export const SHADING = `uniform vec4 palette[64]; uniform vec3 ramp[${RAMP.length}]; uniform float least; uniform int measured; uniform vec2 kept;
  flat out vec4 shade;
  bool hidden(uint kind, float certainty, uint step) {
    shade = palette[kind & 63u];
    bool gone = shade.a == 0.0 || certainty < least;
    if (measured == 1) {
      bool known = step != ${UNKNOWN}u;
      float at = float(step) / ${STEPS}.0 * ${RAMP.length - 1}.0;
      int low = int(min(floor(at), ${RAMP.length - 2}.0));
      shade = vec4(known ? mix(ramp[low], ramp[low + 1], at - float(low)) : vec3(0.55), 1.0);
      gone = gone || (known ? float(step) < kept.x || float(step) > kept.y : kept.x > 0.0 || kept.y < ${STEPS}.0);
    }
    return gone;
  }`;

const FLAT_RAMP = new Float32Array(RAMP.flat().map((value) => value / 255));

export function setShading(gl: WebGL2RenderingContext, at: Uniforms, style: Style): void {
  gl.uniform4fv(at.palette, style.palette());
  gl.uniform3fv(at.ramp, FLAT_RAMP);
  gl.uniform1f(at.least, style.least - 1 / 512);
  gl.uniform1i(at.measured, style.measure ? 1 : 0);
  gl.uniform2f(at.kept, Math.ceil(style.from * STEPS - 0.5), Math.floor(style.to * STEPS + 0.5));
}
