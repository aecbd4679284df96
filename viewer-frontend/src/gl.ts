// WebGL 2 without a library: three small programs draw all there is.

export function program(gl: WebGL2RenderingContext, vertex: string, fragment: string): WebGLProgram {
  const made = gl.createProgram()!;
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]] as const) {
    const shader = gl.createShader(kind)!;
    gl.shaderSource(shader, `#version 300 es\nprecision highp float;\nprecision highp int;\n${source}`);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost())
      throw new Error(gl.getShaderInfoLog(shader) ?? "shader");
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost())
    throw new Error(gl.getProgramInfoLog(made) ?? "program");
  return made;
}

export interface Uniforms {
  [name: string]: WebGLUniformLocation;
}

export function uniforms(gl: WebGL2RenderingContext, of: WebGLProgram): Uniforms {
  const found: Uniforms = {};
  for (let i = 0; i < gl.getProgramParameter(of, gl.ACTIVE_UNIFORMS); i++) {
    const name = gl.getActiveUniform(of, i)!.name;
    found[name.replace("[0]", "")] = gl.getUniformLocation(of, name)!;
  }
  return found;
}
