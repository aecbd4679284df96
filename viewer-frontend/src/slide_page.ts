// One slide: the view, the panel beside it, pointer and keys.

import { json, type Page, type Polygons, type Ring } from "./api";
import { Camera } from "./camera";
import { h, save } from "./dom";
import { ImageLayer } from "./image_layer";
import { OutlinesLayer, type Cell } from "./outlines_layer";
import { drawOverlay } from "./overlay";
import { Panel, type Tool } from "./panel";
import { drawPicture } from "./picture";
import { PointsLayer } from "./points_layer";
import { path, Regions, rings } from "./regions";
import { Style } from "./style";
import { restore, written } from "./view_link";

/** Points drawn when the view rests, and the least and most while it moves: as many as the machine draws in time. */
const RESTING = 600_000;
const [LEAST, MOST] = [20_000, 2_000_000];
const [SLOW_MS, FAST_MS] = [50, 24];
const REST_MS = 250;

export async function showSlide(main: HTMLElement, number: number, given: URLSearchParams): Promise<() => void> {
  const url = `/api/results/${number}`;
  const page = await json<Page>(url);
  return new SlidePage(main, number, url, page, given).leave;
}

class SlidePage {
  private readonly stage = h("div", { className: "stage" });
  private readonly canvas = h("canvas", { className: "gl" });
  private readonly over = h("canvas", { className: "over", tabIndex: 0, role: "application" });
  private readonly gl: WebGL2RenderingContext;
  private readonly context = this.over.getContext("2d")!;
  private readonly camera: Camera;
  private readonly style: Style;
  private readonly image: ImageLayer;
  private readonly points: PointsLayer;
  private readonly outlines: OutlinesLayer;
  private readonly regions: Regions;
  private readonly panel: Panel;
  private readonly watch: ResizeObserver;
  private tool: Tool = "move";
  private drawing: Ring = [];
  private pointed: Cell | null = null;
  private pinned: Cell | null = null;
  private tissue: Path2D | null = null;
  private frame = 0;
  private drawn = 0;
  private budget = 120_000;
  private moved = 0;
  private resting = 0;
  private linked = 0;
  private fitted = false;

  constructor(
    main: HTMLElement,
    private readonly number: number,
    private readonly url: string,
    private readonly page: Page,
    given: URLSearchParams,
  ) {
    document.title = `${page.name} - cytolite`;
    const gl = this.canvas.getContext("webgl2", { alpha: false, antialias: false });
    if (!gl) throw new Error("This browser does not draw with WebGL 2; another one, or its newest version, does.");
    this.gl = gl;
    this.camera = new Camera(page.width_px, page.height_px);
    this.style = new Style(page.kinds);
    this.image = new ImageLayer(gl, page, url, this.redraw);
    this.points = new PointsLayer(gl, page.mpp);
    this.outlines = new OutlinesLayer(gl, page, url, this.redraw);
    this.regions = new Regions(url, () => {
      this.panel.showRegions();
      this.redraw();
    });
    this.fitted = restore(given, this.camera, this.style);
    this.panel = new Panel(page, this.style, this.regions, {
      changed: this.redraw,
      tool: (tool) => this.choose(tool),
      picture: () => this.savePicture(),
      fit: () => this.fit(),
    });
    this.over.setAttribute("aria-label", `${page.name}: the slide. Arrows move, plus and minus zoom, 0 shows all, ? lists the keys.`);
    this.stage.append(this.canvas, this.over, this.panel.tip, this.panel.status);
    main.replaceChildren(h("div", { className: "slide" }, this.stage, this.panel.element));
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(this.stage);
    this.resize();
    this.listen();
    this.canvas.addEventListener("webglcontextlost", () => this.panel.say("The graphics card gave up; reload the page.", true));
    void this.points.load(url).then(this.redraw);
    void this.loadTissue();
    this.over.focus();
  }

  readonly leave = (): void => {
    this.watch.disconnect();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.resting);
    clearTimeout(this.linked);
    document.removeEventListener("keydown", this.key);
    delete document.documentElement.dataset.busy;
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  };

  // ---- drawing -----------------------------------------------------------------------------------------------------

  private readonly redraw = (): void => {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  };

  private draw(): void {
    this.frame = 0;
    this.learn();
    const { gl, camera, style } = this;
    const dpr = this.dpr();
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0.93, 0.93, 0.93, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.disable(gl.BLEND);
    if (style.image) this.image.draw(camera, dpr);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    if (style.cells) {
      const resting = performance.now() - this.moved >= REST_MS;
      const near = this.outlines.isNear(camera);
      if (!near || !this.outlines.draw(camera, style, dpr)) this.points.draw(camera, style, dpr, resting ? Math.max(RESTING, this.budget) : this.budget);
      else this.points.share = 1;
    }
    drawOverlay(this.context, camera, dpr, this.page.mpp, {
      tissue: style.tissue ? this.tissue : null,
      regions: style.regions ? this.regions.all.map((r) => ({ name: r.name, path: path([r.geometry]), at: topmost(rings(r.geometry)[0]) })) : [],
      drawing: this.drawing,
      pointed: this.pointed?.ring ?? null,
      pinned: this.pinned?.ring ?? null,
    });
    this.panel.showState(this.problem(), this.points, this.busy());
    document.documentElement.dataset.busy = String(this.busy());
    clearTimeout(this.linked);
    this.linked = window.setTimeout(() => history.replaceState(null, "", `#/${this.number}?${written(camera, style)}`), 300);
  }

  /** Draw fewer points in the next frame if the last ones came late, more if they came early. */
  private learn(): void {
    const now = performance.now();
    const took = now - this.drawn;
    this.drawn = now;
    if (now - this.moved > 20 || took > 1000) return; // frames of a rest say nothing
    if (took > SLOW_MS) this.budget = Math.max(LEAST, this.budget * 0.7);
    else if (took < FAST_MS) this.budget = Math.min(MOST, this.budget * 1.2);
  }

  private problem(): string {
    return this.page.slide_problem ?? (this.image.tiles.problem || this.points.problem || this.outlines.tiles.problem);
  }

  private busy(): boolean {
    return this.image.tiles.waiting + this.outlines.tiles.waiting > 0 || (!this.points.loaded && !this.points.problem);
  }

  private dpr(): number {
    return Math.min(2, window.devicePixelRatio || 1);
  }

  private resize(): void {
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.round(width * this.dpr());
      canvas.height = Math.round(height * this.dpr());
    }
    this.camera.resize(width, height);
    if (!this.fitted && width > 1) this.fit();
    this.redraw();
  }

  private fit(): void {
    this.fitted = true;
    this.camera.fit();
    this.move();
  }

  /** The view moves: draw less until it rests. */
  private move(): void {
    this.moved = performance.now();
    clearTimeout(this.resting);
    this.resting = window.setTimeout(this.redraw, REST_MS + 10);
    this.redraw();
  }

  private savePicture(): void {
    this.draw(); // what WebGL has drawn is there until the browser shows it
    const canvas = drawPicture([this.canvas, this.over], this.page, this.style, this.dpr());
    canvas.toBlob((blob) => blob && save(blob, `${this.page.name}.png`), "image/png");
  }

  private async loadTissue(): Promise<void> {
    try {
      this.tissue = path((await json<{ features: Polygons[] }>(`${this.url}/tissue`)).features);
    } catch (error) {
      this.panel.say((error as Error).message, true);
    }
    this.redraw();
  }

  // ---- pointer and keys ----------------------------------------------------------------------------------------------

  private choose(tool: Tool): void {
    this.tool = tool;
    this.drawing = [];
    this.panel.showTool(tool);
    this.over.classList.toggle("draws", tool !== "move");
    this.redraw();
  }

  private listen(): void {
    const { over } = this;
    let from: [number, number] | null = null;
    let dragged = false;
    const fingers = new Map<number, [number, number]>();
    over.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 16 : 1;
      this.camera.zoom(Math.exp(Math.max(-120, Math.min(120, event.deltaY * lines)) * 0.0022), event.offsetX, event.offsetY);
      this.move();
    }, { passive: false });
    over.addEventListener("pointerdown", (event) => {
      over.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
      from = [event.offsetX, event.offsetY];
      dragged = false;
      const at = this.camera.toSlide(...from);
      if (this.tool === "polygon") this.drawing.push(at);
      else if (this.tool !== "move") this.drawing = [at];
      this.redraw();
    });
    over.addEventListener("pointermove", (event) => {
      const now: [number, number] = [event.offsetX, event.offsetY];
      const before = fingers.get(event.pointerId);
      this.panel.showPlace(...this.camera.toSlide(...now));
      if (before && fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)![1];
        const apart = ([x, y]: [number, number]): number => Math.max(1, Math.hypot(x - other[0], y - other[1]));
        this.camera.zoom(apart(before) / apart(now), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
        this.move();
      } else if (before && from) {
        dragged ||= Math.hypot(now[0] - from[0], now[1] - from[1]) > 3;
        this.drag(now[0] - before[0], now[1] - before[1], this.camera.toSlide(...now));
      } else this.point(now);
      if (before) fingers.set(event.pointerId, now);
    });
    const up = (event: PointerEvent): void => {
      fingers.delete(event.pointerId);
      if (!dragged && this.tool === "move" && event.type === "pointerup") this.pin();
      else if (dragged && (this.tool === "rectangle" || this.tool === "lasso")) this.finish();
      from = null;
    };
    over.addEventListener("pointerup", up);
    over.addEventListener("pointercancel", up);
    over.addEventListener("pointerleave", () => this.point(null));
    over.addEventListener("dblclick", (event) => {
      if (this.tool === "polygon") {
        this.drawing.pop(); // the second click was at the place of the first
        this.finish();
      } else if (this.tool === "move") {
        this.camera.zoom(0.5, event.offsetX, event.offsetY);
        this.move();
      }
    });
    document.addEventListener("keydown", this.key);
  }

  private drag(dx: number, dy: number, at: [number, number]): void {
    if (this.tool === "move") {
      this.camera.pan(dx, dy);
      this.move();
    } else if (this.tool === "lasso") this.drawing.push(at);
    else if (this.tool === "rectangle") {
      const [[x, y]] = this.drawing;
      this.drawing = [[x, y], [at[0], y], at, [x, at[1]], [x, y]];
    }
    this.redraw();
  }

  private finish(): void {
    const ring = this.tool === "rectangle" ? this.drawing.slice(0, 4) : this.drawing;
    this.drawing = [];
    if (ring.length >= 3) this.regions.add(ring);
    this.choose("move");
  }

  private point(at: [number, number] | null): void {
    const found = at && this.style.cells && this.outlines.isNear(this.camera) ? this.outlines.find(...this.camera.toSlide(...at)) : null;
    const shown = found && !this.style.off.has(found.type) && found.certainty >= this.style.least ? found : null;
    if (shown?.row !== this.pointed?.row) this.redraw();
    this.pointed = shown;
    this.panel.showTip(shown, at);
  }

  private pin(): void {
    this.pinned = this.pointed;
    if (this.pinned) void this.panel.showCell(this.pinned, this.url);
    else this.panel.hideCell();
    this.redraw();
  }

  private readonly key = (event: KeyboardEvent): void => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("select, input:not([type=checkbox])")) return;
    const step = 80;
    const moves: Record<string, () => void> = {
      ArrowLeft: () => this.camera.pan(step, 0),
      ArrowRight: () => this.camera.pan(-step, 0),
      ArrowUp: () => this.camera.pan(0, step),
      ArrowDown: () => this.camera.pan(0, -step),
      "+": () => this.camera.zoom(0.7),
      "=": () => this.camera.zoom(0.7),
      "-": () => this.camera.zoom(1 / 0.7),
      "0": () => this.camera.fit(),
    };
    const others: Record<string, () => void> = {
      v: () => this.choose("move"),
      r: () => this.choose("rectangle"),
      p: () => this.choose("polygon"),
      l: () => this.choose("lasso"),
      Enter: () => this.tool === "polygon" && this.finish(),
      Escape: () => this.choose("move"),
      c: () => this.panel.toggle("cells"),
      i: () => this.panel.toggle("image"),
      t: () => this.panel.toggle("tissue"),
      o: () => this.panel.nextDrawn(),
      s: () => this.savePicture(),
      g: () => (location.hash = "#/"),
      "?": () => this.panel.toggleHelp(),
    };
    if (target !== this.over && (event.key === "Enter" || event.key.startsWith("Arrow"))) return; // buttons and lists have their own
    if (moves[event.key]) {
      moves[event.key]();
      this.move();
    } else if (/^[1-9]$/.test(event.key)) this.panel.toggleKind(Number(event.key));
    else if (others[event.key]) others[event.key]();
    else return;
    event.preventDefault();
  };
}

function topmost(ring: Ring): [number, number] {
  return ring.reduce((best, at) => (at[1] < best[1] ? at : best));
}
