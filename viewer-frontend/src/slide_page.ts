// One slide: the view, the panel beside it, pointer and keys.

import { json, sent, type Gallery, type Page, type Ring } from "./api";
import { Camera } from "./camera";
import type { Place } from "./compare_page";
import { h, save } from "./dom";
import { ImageLayer } from "./image_layer";
import { LabelPanel } from "./label_panel";
import { Labels } from "./labels";
import { Layers } from "./layers";
import { MeasurePanel } from "./measure_panel";
import { OutlinesLayer, type Cell } from "./outlines_layer";
import { drawOverlay } from "./overlay";
import { OverviewMap } from "./overview_map";
import { Panel, type Tool } from "./panel";
import { drawPicture } from "./picture";
import { PointsLayer } from "./points_layer";
import { path, Regions, rings, topmost } from "./regions";
import { STEPS, UNKNOWN } from "./shading";
import { Style } from "./style";
import { teachPanel } from "./teach_panel";
import { restore, written } from "./view_link";

/** Points drawn when the view rests, and the least and most while it moves: as many as the machine draws in time. */
const RESTING = 600_000;
const [LEAST, MOST] = [20_000, 2_000_000];
const [SLOW_MS, FAST_MS] = [50, 24];
const REST_MS = 250;
/** Of chosen nuclei so many are drawn with a line around. */
const MOST_CHOSEN = 2_000;
/** um per CSS px at which one nucleus is looked at. */
const CLOSE_UM = 0.2;

export async function showSlide(main: HTMLElement, number: number, given: URLSearchParams): Promise<() => void> {
  const url = `api/results/${number}`;
  const page = await json<Page>(url);
  const shown = new SlidePage(number, url, page, given, `#/${number}`);
  document.title = `${page.name} - cytolite`;
  main.replaceChildren(h("div", { className: "slide" }, shown.stage, shown.panelElement));
  shown.start();
  return shown.leave;
}

export class SlidePage {
  readonly stage = h("div", { className: "stage" });
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
  private readonly layers: Layers;
  private readonly measure: MeasurePanel;
  private readonly labels: Labels;
  private readonly labelPanel: LabelPanel;
  private readonly map: OverviewMap;
  /** The page beside it, that shows the same place. */
  private other: SlidePage | null = null;
  private follows = false;
  private marks: [number, number][] = [];
  private otherKeys: (key: string) => boolean = () => false;
  private frame = 0;
  private drawn = 0;
  private budget = 120_000;
  private moved = 0;
  private resting = 0;
  private linked = 0;
  private fitted = false;

  /** `address` is where its view is kept; of a page that follows another it is null. */
  constructor(
    private readonly number: number,
    private readonly url: string,
    private readonly page: Page,
    given: URLSearchParams,
    private readonly address: string | null,
  ) {
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
    this.layers = new Layers(page, url, this.redraw);
    this.measure = new MeasurePanel(page, url, this.style, () => this.shade());
    this.labels = new Labels(url, this.style, () => this.relabel());
    this.labelPanel = new LabelPanel(url, this.style, this.labels, {
      changed: () => this.relabel(),
      select: () => this.choose("choose"),
      goTo: (x, y) => this.goTo(x, y),
    });
    this.map = new OverviewMap(page, url, (x, y) => this.moveTo(x, y), this.redraw);
    this.panel = new Panel(page, this.style, this.regions, this.layers, this.measure, this.labelPanel, teachPanel(page, url, number), {
      changed: this.redraw,
      tool: (tool) => this.choose(tool),
      picture: () => this.savePicture(),
      fit: () => this.fit(),
    });
    this.over.setAttribute("aria-label", `${page.name}: the slide. Arrows move, plus and minus zoom, 0 shows all, ? lists the keys.`);
    this.stage.append(this.canvas, this.over, this.map.element, this.panel.tip, this.panel.status);
    this.watch = new ResizeObserver(() => this.resize());
    this.canvas.addEventListener("webglcontextlost", () => this.panel.say("The graphics card gave up; reload the page.", true));
  }

  get panelElement(): HTMLElement {
    return this.panel.element;
  }

  /** Begin, once it is in the document. */
  start(otherKeys: (key: string) => boolean = () => false): void {
    this.otherKeys = otherKeys;
    this.watch.observe(this.stage);
    this.resize();
    this.listen();
    void this.load();
    if (this.address !== null) {
      document.addEventListener("keydown", this.key);
      this.over.focus();
    }
  }

  private async load(): Promise<void> {
    await Promise.all([this.points.load(this.url), this.labels.load(), this.style.measure ? this.measure.load() : null]);
    this.shade();
    if (this.address === null) return;
    const { results } = await json<Gallery>("api/results");
    const others = results.map((card, number) => ({ ...card, number })).filter((card) => card.number !== this.number && !card.error && card.slide === this.page.slide);
    this.panel.showOthers(this.number, others);
  }

  // ---- beside another ------------------------------------------------------------------------------------------------

  /** Show the place of this page on another too, and the other way round; looks are this page's. */
  lead(other: SlidePage): void {
    [this.other, other.other, other.follows] = [other, this, true];
  }

  add(element: HTMLElement): void {
    this.panel.add(element);
  }

  caption(text: string): void {
    this.stage.append(h("p", { className: "caption" }, text));
  }

  mark(places: Place[]): void {
    this.marks = places.map(([x, y]) => [x, y]);
    this.redraw();
  }

  goTo(x: number, y: number): void {
    this.camera.scale = CLOSE_UM / this.page.mpp;
    this.moveTo(x, y);
  }

  private moveTo(x: number, y: number): void {
    [this.camera.x, this.camera.y] = [x, y];
    this.move();
  }

  private followMeasure(from: Style): void {
    const { style } = this;
    const wanted = this.page.measures.includes(from.measure) ? from.measure : "";
    if (style.measure === wanted) return;
    style.measure = wanted;
    void this.measure.load();
  }

  private takeView(from: SlidePage): void {
    const { camera, style } = this;
    const looks = JSON.stringify(looksOf(style));
    const same = camera.x === from.camera.x && camera.y === from.camera.y && camera.scale === from.camera.scale;
    if (this.follows) follow(style, from.style);
    if (this.follows) this.followMeasure(from.style);
    if (same && looks === JSON.stringify(looksOf(style))) return;
    [camera.x, camera.y, camera.scale, this.fitted] = [from.camera.x, from.camera.y, from.camera.scale, true];
    this.moved = from.moved;
    this.redraw();
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
    this.other?.takeView(this);
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
      density: this.densityShape(),
      outlines: this.layers.shown(style),
      chosen: this.outlines.isNear(camera) ? this.outlines.rings(this.labels.chosen, MOST_CHOSEN) : [],
      marks: this.marks,
      regions: style.regions ? this.regions.all.map((r) => ({ name: r.name, path: path([r.geometry]), at: topmost(rings(r.geometry)[0]) })) : [],
      drawing: this.drawing,
      pointed: this.pointed?.ring ?? null,
      pinned: this.pinned?.ring ?? null,
    });
    this.map.draw(camera);
    this.panel.showState(this.problem(), this.points, this.busy());
    // Of two pages either may be the last to have loaded.
    document.documentElement.dataset.busy = String(this.busy() || Boolean(this.other?.busy()));
    if (this.address === null) return;
    clearTimeout(this.linked);
    this.linked = window.setTimeout(() => history.replaceState(null, "", `${this.address}?${written(camera, style)}`), 300);
  }

  private densityShape(): { image: ImageBitmap; width: number; height: number } | null {
    const density = this.layers.density(this.style.density);
    const [columns, rows] = this.page.density_size;
    return density && { image: density.image, width: columns * this.page.density_px, height: rows * this.page.density_px };
  }

  /** Draw labelled nuclei in their types. */
  private relabel(): void {
    const types = this.labels.types();
    this.points.relabel(types);
    this.outlines.repaint(types, this.measure.steps);
    this.panel.showKinds();
    this.labelPanel.show();
    this.redraw();
  }

  private shade(): void {
    if (this.measure.steps) this.points.shade(this.measure.steps);
    this.regions.measureBy(this.style.measure || "area_um2");
    this.relabel();
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
    return this.page.slide_problem ?? (this.image.tiles.problem || this.points.problem || this.outlines.tiles.problem || this.layers.problem);
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
    const canvas = drawPicture([this.canvas, this.over], this.page, this.style, this.measure.range, this.dpr());
    canvas.toBlob((blob) => blob && save(blob, `${this.page.name}.png`), "image/png");
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
      if (!dragged && this.tool === "move" && event.type === "pointerup") this.click(event.shiftKey);
      else if (dragged && (this.tool === "rectangle" || this.tool === "lasso" || this.tool === "choose")) this.finish();
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
  }

  private drag(dx: number, dy: number, at: [number, number]): void {
    if (this.tool === "move") {
      this.camera.pan(dx, dy);
      this.move();
    } else if (this.tool === "lasso" || this.tool === "choose") this.drawing.push(at);
    else if (this.tool === "rectangle") {
      const [[x, y]] = this.drawing;
      this.drawing = [[x, y], [at[0], y], at, [x, at[1]], [x, y]];
    }
    this.redraw();
  }

  private escape(): void {
    if (this.tool === "move") this.labels.chosen.clear();
    this.labelPanel.show();
    this.choose("move");
  }

  private finish(): void {
    const ring = this.tool === "rectangle" ? this.drawing.slice(0, 4) : this.drawing;
    this.drawing = [];
    if (ring.length >= 3 && this.tool === "choose") void this.chooseIn(ring);
    else if (ring.length >= 3) this.regions.add(ring);
    this.choose("move");
  }

  /** Choose the nuclei in an area, of those that are shown. */
  private async chooseIn(ring: Ring): Promise<void> {
    if (!this.style.labelling) this.labelPanel.toggle(true);
    const query = new URLSearchParams([...this.style.off].map((id) => ["hidden", String(id)]));
    query.set("least", String(this.style.least));
    const geometry = { type: "Polygon", coordinates: [[...ring, ring[0]]] };
    try {
      const { rows } = await sent<{ rows: number[] }>(`${this.url}/select?${query}`, geometry);
      this.labels.chosen.clear();
      for (const row of rows) this.labels.chosen.add(row);
    } catch (error) {
      this.labels.problem = (error as Error).message;
    }
    this.labelPanel.show();
    this.redraw();
  }

  private point(at: [number, number] | null): void {
    const found = at && this.style.cells && this.outlines.isNear(this.camera) ? this.outlines.find(...this.camera.toSlide(...at), this.style.labelling) : null;
    const shown = found && !this.style.off.has(found.type) && found.certainty >= this.style.least && inRange(found.step, this.style) ? found : null;
    if (shown?.row !== this.pointed?.row) this.redraw();
    this.pointed = shown;
    this.panel.showTip(shown, at);
  }

  /** Choose the nucleus for a label, or show its numbers. */
  private click(more: boolean): void {
    const { chosen } = this.labels;
    if (!this.style.labelling) return this.pin();
    const row = this.pointed?.row;
    const had = row !== undefined && chosen.has(row);
    if (!more) chosen.clear();
    if (row !== undefined && had && more) chosen.delete(row);
    else if (row !== undefined) chosen.add(row);
    this.labelPanel.show();
    this.redraw();
  }

  /** For keys: as a click on the nucleus that is nearest to the middle of the view. */
  private clickMiddle(): void {
    this.pointed = this.outlines.isNear(this.camera) ? this.outlines.nearest(this.camera.x, this.camera.y) : null;
    this.click(false);
  }

  private seen(): Ring {
    const [left, top, right, bottom] = this.camera.bounds();
    return [[left, top], [right, top], [right, bottom], [left, bottom]];
  }

  private pin(): void {
    this.pinned = this.pointed;
    if (this.pinned) void this.panel.showCell(this.pinned, this.url);
    else this.panel.hideCell();
    this.redraw();
  }

  private readonly key = (event: KeyboardEvent): void => {
    const target = event.target as HTMLElement;
    if (target.matches("select, input:not([type=checkbox])")) return;
    const undoes = (event.ctrlKey || event.metaKey) && event.key === "z" && this.style.labelling;
    if (undoes) void this.labels.undo();
    if (undoes) event.preventDefault();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
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
      Enter: () => (this.tool === "polygon" ? this.finish() : this.clickMiddle()),
      w: () => this.regions.add(this.seen()),
      A: () => void this.chooseIn(this.seen()),
      Escape: () => this.escape(),
      c: () => this.panel.toggle("cells"),
      i: () => this.panel.toggle("image"),
      t: () => this.panel.toggle("tissue"),
      q: () => this.panel.toggle("artefacts"),
      e: () => this.labelPanel.toggle(),
      a: () => this.choose("choose"),
      n: () => void this.labelPanel.suggest(),
      b: () => this.labelPanel.go(-1),
      u: () => this.style.labelling && void this.labels.undo(),
      U: () => this.style.labelling && void this.labels.redo(),
      x: () => this.style.labelling && void this.labelPanel.delete(),
      Delete: () => this.style.labelling && void this.labelPanel.delete(),
      Backspace: () => this.style.labelling && void this.labelPanel.clear(),
      o: () => this.panel.nextDrawn(),
      s: () => this.savePicture(),
      g: () => (location.hash = "#/"),
      "?": () => this.panel.toggleHelp(),
    };
    if (target !== this.over && (event.key === "Enter" || event.key.startsWith("Arrow"))) return; // buttons and lists have their own
    if (this.otherKeys(event.key)) event.preventDefault();
    else if (moves[event.key]) {
      moves[event.key]();
      this.move();
    } else if (/^[1-9]$/.test(event.key) && this.style.labelling) void this.labelPanel.give(Number(event.key));
    else if (/^[1-9]$/.test(event.key)) this.panel.toggleKind(Number(event.key));
    else if (others[event.key]) others[event.key]();
    else return;
    event.preventDefault();
  };
}

function inRange(step: number, style: Style): boolean {
  const all = style.from <= 0 && style.to >= 1;
  return !style.measure || all || (step !== UNKNOWN && step >= style.from * STEPS - 0.5 && step <= style.to * STEPS + 0.5);
}

/** What of a style another page takes over; types are told by their names. */
function looksOf(style: Style): object {
  const { drawn, opacity, least, safe, cells, image, tissue, regions, artefacts, compartments, density, from, to } = style;
  return { drawn, opacity, least, safe, cells, image, tissue, regions, artefacts, compartments, density, from, to, off: [...style.off] };
}

function follow(style: Style, from: Style): void {
  const { off: _, ...looks } = looksOf(from) as { off: number[] };
  Object.assign(style, looks);
  const hidden = new Set(from.kinds.filter((kind) => from.off.has(kind.id)).map((kind) => kind.name));
  style.off.clear();
  for (const kind of style.kinds) if (hidden.has(kind.name)) style.off.add(kind.id);
}
