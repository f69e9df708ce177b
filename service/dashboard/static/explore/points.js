/** Draws up to millions of points with WebGL2, and finds the one under a pointer. Knows nothing of what they mean. */

const VERTEX = `#version 300 es
in vec2 place;
in float hue;
uniform vec2 scale, shift;
uniform vec3 hues[8];
uniform float size;
out vec3 colour;
void main() {
  colour = hues[int(hue)];
  gl_Position = vec4(place * scale + shift, 0.0, 1.0);
  gl_PointSize = size;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec3 colour;
uniform vec3 ink;
uniform float opacity, ring;
out vec4 painted;
void main() {
  float far = 2.0 * distance(gl_PointCoord, vec2(0.5));
  if (far > 1.0) discard;
  painted = vec4(far > 1.0 - ring ? ink : colour, opacity);
}`;

// While the view moves, so many points are drawn; they come in random order, so these are a fair part.
const MOVING = 150_000;
const CELLS = 256;

/** @typedef {[number, number, number]} Colour parts from 0 to 1 */

export class Points {
  /** Throws where there is no WebGL2. @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: false });
    if (!gl) throw new Error("This browser has no WebGL2.");
    this.gl = gl;
    // Without this a lost context never comes back.
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.build();
      this.draw();
    });
    this.zoom = 1;
    this.centre = [0, 0];
    this.hues = [];
    this.ink = [0, 0, 0];
  }

  /**
   * @param {Float32Array} x @param {Float32Array} y places in any unit
   * @param {Uint8Array} hue a number below 8 of each
   */
  load(x, y, hue) {
    const [left, right] = extent(x);
    const [bottom, top] = extent(y);
    this.middle = [(left + right) / 2, (bottom + top) / 2];
    this.unit = Math.max(right - left, top - bottom, 1e-9) / 1.9;
    this.places = new Float32Array(2 * x.length);
    for (let i = 0; i < x.length; i += 1) {
      this.places[2 * i] = (x[i] - this.middle[0]) / this.unit;
      this.places[2 * i + 1] = (y[i] - this.middle[1]) / this.unit;
    }
    this.hue = hue;
    this.grid = grid(this.places);
    this.flagged = new Uint32Array(0);
    this.plain = new Uint32Array(x.length);
    for (let i = 0; i < x.length; i += 1) this.plain[i] = i;
    this.build();
  }

  /** Marks points: bit i of `bits` is that of point i. @param {Uint8Array} bits */
  flag(bits) {
    const count = this.hue.length;
    const flagged = new Uint32Array(count);
    const plain = new Uint32Array(count);
    let [marked, rest] = [0, 0];
    for (let i = 0; i < count; i += 1) {
      if ((bits[i >> 3] >> (i & 7)) & 1) flagged[marked++] = i;
      else plain[rest++] = i;
    }
    this.flagged = flagged.subarray(0, marked);
    this.plain = plain.subarray(0, rest);
    this.fill(this.indices[0], this.plain);
    this.fill(this.indices[1], this.flagged);
  }

  build() {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, text] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.at = (name) => gl.getUniformLocation(program, name);
    const attribute = (name, data, size, type) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      const place = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, type, false, 0, 0);
    };
    attribute("place", this.places, 2, gl.FLOAT);
    attribute("hue", this.hue, 1, gl.UNSIGNED_BYTE);
    this.indices = [gl.createBuffer(), gl.createBuffer()];
    this.fill(this.indices[0], this.plain);
    this.fill(this.indices[1], this.flagged);
  }

  fill(buffer, data) {
    this.gl.bindBuffer(this.gl.ELEMENT_ARRAY_BUFFER, buffer);
    this.gl.bufferData(this.gl.ELEMENT_ARRAY_BUFFER, data, this.gl.STATIC_DRAW);
  }

  /** Draws soon, all that is asked for in one frame once. @param {boolean} moving fewer points, to keep up */
  draw(moving = false) {
    this.moving = moving;
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      if (!this.gl.isContextLost()) this.paint(this.moving ? MOVING : Infinity);
    });
    if (moving) {
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.draw(), 150);
    }
  }

  /** @param {number} most points of each kind */
  paint(most) {
    const gl = this.gl;
    const ratio = devicePixelRatio;
    const [width, height] = [this.canvas.clientWidth * ratio, this.canvas.clientHeight * ratio];
    if (this.canvas.width !== Math.round(width) || this.canvas.height !== Math.round(height)) {
      this.canvas.width = Math.round(width);
      this.canvas.height = Math.round(height);
    }
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const [sx, sy] = this.scale();
    gl.uniform2f(this.at("scale"), sx, sy);
    gl.uniform2f(this.at("shift"), -this.centre[0] * sx, -this.centre[1] * sy);
    gl.uniform3fv(this.at("hues"), this.hues.flat());
    gl.uniform3fv(this.at("ink"), this.ink);
    const density = Math.sqrt(20_000 / Math.max(this.hue.length, 200));
    const size = Math.min(Math.max(5 * density * Math.sqrt(this.zoom), 1.5), 9) * ratio;
    const pass = (buffer, count, diameter, opacity, ring) => {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
      gl.uniform1f(this.at("size"), diameter);
      gl.uniform1f(this.at("opacity"), opacity);
      gl.uniform1f(this.at("ring"), ring);
      gl.drawElements(gl.POINTS, Math.min(count, most), gl.UNSIGNED_INT, 0);
    };
    // Where nothing is marked, or everything, nothing stands back.
    const some = this.flagged.length > 0 && this.plain.length > 0;
    pass(this.indices[0], this.plain.length, size, some ? 0.28 : 0.8, 0);
    pass(this.indices[1], this.flagged.length, size + (some ? 2 * ratio : 0), some ? 1 : 0.8, some && size > 3 * ratio ? 0.3 : 0);
  }

  /** From a point's place to the canvas's, whose sides are at -1 and 1. */
  scale() {
    const [width, height] = [this.canvas.clientWidth || 1, this.canvas.clientHeight || 1];
    const side = Math.min(width, height);
    return [(this.zoom * side) / width, (this.zoom * side) / height];
  }

  /** The point's place that is shown at pixels of the canvas. @param {number} left @param {number} top */
  under(left, top) {
    const [sx, sy] = this.scale();
    const x = (2 * left) / this.canvas.clientWidth - 1;
    const y = 1 - (2 * top) / this.canvas.clientHeight;
    return [x / sx + this.centre[0], y / sy + this.centre[1]];
  }

  /** The same in the unit that was loaded. @param {number} left @param {number} top */
  given(left, top) {
    const place = this.under(left, top);
    return [place[0] * this.unit + this.middle[0], place[1] * this.unit + this.middle[1]];
  }

  /** Where a point is shown. @param {number} point @returns {[number, number]} pixels from left and top */
  shown(point) {
    const [sx, sy] = this.scale();
    const x = (this.places[2 * point] - this.centre[0]) * sx;
    const y = (this.places[2 * point + 1] - this.centre[1]) * sy;
    return [((x + 1) / 2) * this.canvas.clientWidth, ((1 - y) / 2) * this.canvas.clientHeight];
  }

  /** Zooms about what is shown at a pixel. @param {number} factor @param {number} left @param {number} top */
  zoomAt(factor, left, top) {
    const before = this.under(left, top);
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.5), 2000);
    const after = this.under(left, top);
    this.pan(before[0] - after[0], before[1] - after[1]);
  }

  /** @param {number} x @param {number} y in places */
  pan(x, y) {
    this.centre = [this.centre[0] + x, this.centre[1] + y];
    this.draw(true);
  }

  whole() {
    this.zoom = 1;
    this.centre = [0, 0];
    this.draw();
  }

  /** The point nearest to a pixel, or -1 where none is within 12. @param {number} left @param {number} top */
  pick(left, top) {
    const [x, y] = this.under(left, top);
    const [, sy] = this.scale();
    const reach = 24 / (sy * this.canvas.clientHeight);
    let [best, nearest] = [-1, reach * reach];
    const { starts, members } = this.grid;
    const [first, last] = [cell(x - reach), cell(x + reach)];
    for (let row = cell(y - reach); row <= cell(y + reach); row += 1) {
      for (let column = first; column <= last; column += 1) {
        const here = row * CELLS + column;
        for (let i = starts[here]; i < starts[here + 1]; i += 1) {
          const [dx, dy] = [this.places[2 * members[i]] - x, this.places[2 * members[i] + 1] - y];
          const far = dx * dx + dy * dy;
          if (far < nearest) [best, nearest] = [members[i], far];
        }
      }
    }
    return best;
  }

  release() {
    cancelAnimationFrame(this.waiting);
    clearTimeout(this.settling);
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

/** @param {Float32Array} values @returns {[number, number]} */
function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 0];
}

/** @param {number} place from -1 to 1 */
function cell(place) {
  return Math.min(Math.max(Math.floor(((place + 1) / 2) * CELLS), 0), CELLS - 1);
}

/** The points by cells of a grid. @param {Float32Array} places */
function grid(places) {
  const count = places.length / 2;
  const cells = new Uint32Array(count);
  const starts = new Uint32Array(CELLS * CELLS + 1);
  for (let i = 0; i < count; i += 1) {
    cells[i] = cell(places[2 * i + 1]) * CELLS + cell(places[2 * i]);
    starts[cells[i] + 1] += 1;
  }
  for (let i = 0; i < CELLS * CELLS; i += 1) starts[i + 1] += starts[i];
  const next = starts.slice();
  const members = new Uint32Array(count);
  for (let i = 0; i < count; i += 1) members[next[cells[i]]++] = i;
  return { starts, members };
}
