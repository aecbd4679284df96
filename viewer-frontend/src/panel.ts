// The panel beside the slide: types, how they look, layers, tools, counts in regions, the numbers of a cell.

import { json, type Histogram, type Page } from "./api";
import { button, count, h, number, save } from "./dom";
import type { LabelPanel } from "./label_panel";
import { OUTLINES, type Layers } from "./layers";
import type { MeasurePanel } from "./measure_panel";
import type { Cell } from "./outlines_layer";
import type { PointsLayer } from "./points_layer";
import type { Regions } from "./regions";
import type { Drawn, Style } from "./style";

export type Tool = "move" | "rectangle" | "polygon" | "lasso" | "choose";

interface Calls {
  changed: () => void;
  tool: (tool: Tool) => void;
  picture: () => void;
  fit: () => void;
}

const TOOLS: [Tool, string, string][] = [
  ["move", "Move", "v"],
  ["rectangle", "Rectangle", "r"],
  ["polygon", "Polygon", "p"],
  ["lasso", "Lasso", "l"],
];
const KEYS = [
  ["arrows, + and -", "move, zoom"],
  ["0", "whole slide"],
  ["1 to 9", "a type on or off"],
  ["c, i, t, q", "nuclei, image, tissue, artefacts on or off"],
  ["o", "outline, area, both"],
  ["r, p, l", "draw a rectangle, polygon, lasso"],
  ["w", "what is seen, as a region"],
  ["Enter, Esc", "end a polygon, give up"],
  ["Enter", "the nucleus nearest to the middle, as if clicked"],
  ["s", "save a picture"],
  ["e", "correct types: then 1 to 9 give them"],
  ["a, A", "choose nuclei in an area, or all that are seen"],
  ["x, Backspace", "no nucleus; no label"],
  ["u, U", "undo, redo"],
  ["n, b", "next, back: what is worth a label, or what changed"],
  ["g", "all results"],
];

export class Panel {
  readonly element: HTMLElement;
  readonly tip = h("div", { className: "tip", hidden: true });
  readonly status = h("div", { className: "status", role: "status" });
  private readonly said = h("p", { className: "problem", hidden: true, role: "alert" });
  private readonly kinds = h("div", { className: "kinds" });
  private readonly boxes = new Map<string, HTMLInputElement>();
  private readonly tools = new Map<Tool, HTMLButtonElement>();
  private readonly measured = h("div", { className: "measured", "aria-live": "polite" });
  private readonly cell = h("section", { hidden: true, "aria-live": "polite" });
  private readonly others = h("section", { hidden: true });
  private readonly densityScale = h("p", { className: "minor", hidden: true });
  private readonly help: HTMLDetailsElement;
  private readonly drawn: HTMLSelectElement;
  private readonly place = h("span");
  private readonly drawnShare = h("span");

  constructor(
    private readonly page: Page,
    private readonly style: Style,
    private readonly regions: Regions,
    private readonly layers: Layers,
    private readonly measure: MeasurePanel,
    labels: LabelPanel,
    teach: HTMLElement,
    private readonly calls: Calls,
  ) {
    this.drawn = h("select", { id: "drawn" }, ...["outline", "fill", "both"].map((d) => h("option", { value: d }, d)));
    this.drawn.value = style.drawn;
    this.drawn.onchange = () => {
      style.drawn = this.drawn.value as Drawn;
      calls.changed();
    };
    this.help = h("details", {}, h("summary", {}, "Keys"), h("dl", {}, ...KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])));
    this.status.append(this.place, this.drawnShare);
    this.showKinds();
    this.element = h(
      "aside",
      { "aria-label": "Nuclei and regions" },
      h("p", {}, h("a", { href: "#/" }, "All results")),
      h("h1", {}, page.name),
      h("p", { className: "notice" }, page.notice),
      this.said,
      ...page.warnings.map((warning) => h("p", { className: "warning" }, warning)),
      h("p", { className: "minor" }, `${count(page.cells)} nuclei, ${number(page.tissue_mm2)} mm² of tissue, ${number(page.cells_per_mm2)} per mm². ${page.model}`),
      h("section", {}, h("h2", {}, "Types"), this.kinds, this.check("colour-blind safe colours", "safe", () => this.showKinds())),
      h(
        "section",
        {},
        h("h2", {}, "Look"),
        h("div", { className: "row" }, h("label", { htmlFor: "drawn" }, "Near, as"), this.drawn),
        measure.element,
        this.slider("opacity", "Opacity", 0.1, (value) => (style.opacity = value), style.opacity),
        this.slider("least", "Type at least so probable", 0, (value) => (style.least = value), style.least),
        this.check("slide", "image"),
        this.check("nuclei", "cells"),
        this.check("regions", "regions"),
      ),
      this.layersSection(),
      this.toolsSection(),
      labels.element,
      teach,
      this.others,
      this.cell,
      this.help,
    );
    this.showTool("move");
    this.showRegions();
  }

  // ---- types and looks -----------------------------------------------------------------------------------------------

  showKinds(): void {
    const { page, style } = this;
    const bar = (share: number): HTMLElement => h("meter", { value: share, min: 0, max: 1, "aria-hidden": "true" });
    this.kinds.replaceChildren(
      ...style.kinds.map((kind, i) => {
        const box = h("input", { type: "checkbox", id: `kind-${kind.id}`, checked: !style.off.has(kind.id) });
        box.onchange = () => this.toggleKind(i + 1, box.checked);
        const swatch = h("span", { className: "swatch" });
        swatch.style.backgroundColor = style.css(kind);
        const n = page.types[kind.name] ?? 0;
        return h("label", { htmlFor: box.id }, box, swatch, h("span", {}, kind.name), h("span", { className: "count" }, count(n)), bar(page.cells ? n / page.cells : 0));
      }),
    );
  }

  toggleKind(number: number, on?: boolean): void {
    const kind = this.style.kinds[number - 1];
    if (!kind) return;
    if (on ?? this.style.off.has(kind.id)) this.style.off.delete(kind.id);
    else this.style.off.add(kind.id);
    (document.getElementById(`kind-${kind.id}`) as HTMLInputElement).checked = !this.style.off.has(kind.id);
    this.calls.changed();
  }

  private check(text: string, name: "safe" | "image" | "cells" | "regions" | "tissue" | "artefacts" | "compartments", then?: () => void): HTMLElement {
    const box = h("input", { type: "checkbox", checked: this.style[name] });
    this.boxes.set(name, box);
    box.onchange = () => {
      this.style[name] = box.checked;
      then?.();
      this.calls.changed();
    };
    return h("label", { className: "check" }, box, text);
  }

  toggle(name: "image" | "cells" | "tissue" | "artefacts"): void {
    this.boxes.get(name)?.click();
  }

  nextDrawn(): void {
    this.drawn.selectedIndex = (this.drawn.selectedIndex + 1) % this.drawn.options.length;
    this.drawn.dispatchEvent(new Event("change"));
  }

  private slider(id: string, text: string, least: number, set: (value: number) => void, value: number): HTMLElement {
    const input = h("input", { type: "range", id, min: String(least), max: "1", step: "0.05", value: String(value) });
    const shown = h("output", { htmlFor: id }, value.toFixed(2));
    input.oninput = () => {
      set(Number(input.value));
      shown.textContent = Number(input.value).toFixed(2);
      this.calls.changed();
    };
    return h("div", { className: "row" }, h("label", { htmlFor: id }, text), input, shown);
  }

  // ---- layers and other results --------------------------------------------------------------------------------------

  private layersSection(): HTMLElement {
    const { page, style } = this;
    const density = h("select", { id: "density" }, h("option", { value: "" }, "none"), ...page.densities.map((name) => h("option", { value: name }, name)));
    if (!page.densities.includes(style.density)) style.density = "";
    density.value = style.density;
    density.onchange = () => {
      style.density = density.value;
      this.calls.changed();
    };
    const there = OUTLINES.filter((name) => page.outlines.includes(name));
    const missing = page.densities.length ? "" : "Density maps and compartments come with cytolite spatial.";
    return h(
      "section",
      {},
      h("h2", {}, "Layers"),
      ...there.map((name) => this.check(name, name)),
      page.densities.length ? h("div", { className: "row" }, h("label", { htmlFor: "density" }, "Density of"), density) : null,
      this.densityScale,
      missing ? h("p", { className: "minor" }, missing) : null,
    );
  }

  private showDensityScale(): void {
    const density = this.layers.density(this.style.density);
    this.densityScale.hidden = !density;
    if (density) this.densityScale.textContent = `yellow: few; darkest: ${number(density.most)} per mm² and more`;
  }

  /** Offer the other results of the slide for comparison. */
  showOthers(number_: number, others: { name: string; model: string; number: number }[]): void {
    this.others.hidden = !others.length;
    if (!others.length) return;
    const choice = h("select", { id: "other" }, ...others.map((other) => h("option", { value: String(other.number) }, `${other.name}: ${other.model}`)));
    const go = button("Compare", () => (location.hash = `#/${number_}/${choice.value}`));
    this.others.replaceChildren(h("h2", {}, "Compare"), h("div", { className: "row" }, h("label", { htmlFor: "other" }, "With"), choice, go));
  }

  /** Put something first in the panel. */
  add(element: HTMLElement): void {
    this.said.after(element);
  }

  // ---- regions -------------------------------------------------------------------------------------------------------

  private toolsSection(): HTMLElement {
    const { regions, calls } = this;
    const buttons = TOOLS.map(([tool, text, key]) => {
      const made = button(text, () => calls.tool(tool), `key ${key}`);
      this.tools.set(tool, made);
      return made;
    });
    const file = h("input", { type: "file", accept: ".geojson,.json", hidden: true });
    file.onchange = async () => {
      try {
        if (file.files?.[0]) regions.take(await file.files[0].text());
      } catch (error) {
        this.say((error as Error).message, true);
      }
      file.value = "";
    };
    return h(
      "section",
      {},
      h("h2", {}, "Count in regions"),
      h("div", { className: "buttons", role: "group", "aria-label": "Tools" }, ...buttons),
      this.measured,
      h(
        "div",
        { className: "buttons" },
        button("Save regions", () => save(new Blob([JSON.stringify(regions.geojson())], { type: "application/geo+json" }), `${this.page.name}-regions.geojson`)),
        button("Load regions", () => file.click()),
        button("Clear", () => regions.clear()),
        file,
      ),
      h("div", { className: "buttons" }, button("Whole slide", calls.fit), button("Save picture", calls.picture)),
    );
  }

  showTool(tool: Tool): void {
    for (const [each, button] of this.tools) button.setAttribute("aria-pressed", String(each === tool));
  }

  showRegions(): void {
    const { regions, measured, style } = this;
    if (!regions.all.length) {
      measured.replaceChildren(h("p", { className: "minor" }, "Draw a region: counts and densities as of segment --roi."));
      return;
    }
    if (regions.problem) {
      measured.replaceChildren(h("p", { className: "problem" }, regions.problem));
      return;
    }
    const cards = regions.all.map((region, i) => {
      const row = regions.rows[i];
      const remove = h("button", { type: "button", "aria-label": `Remove ${region.name}` }, "Remove");
      remove.onclick = () => regions.remove(i);
      const name = h("input", { type: "text", value: region.name, "aria-label": "Name of the region" });
      name.onchange = () => regions.rename(i, name.value);
      const head = h("div", { className: "row" }, name, remove);
      if (!row) return h("div", { className: "region" }, head, h("p", { className: "minor" }, "counting ..."));
      const kinds = style.kinds.filter((kind) => row[kind.name]);
      const line = (...cells: string[]): HTMLElement => h("tr", {}, h("th", { scope: "row" }, cells[0]), ...cells.slice(1).map((cell) => h("td", {}, cell)));
      return h(
        "div",
        { className: "region" },
        head,
        h(
          "table",
          {},
          h("tr", {}, h("td"), ...["nuclei", "share", "per mm²"].map((text) => h("th", { scope: "col" }, text))),
          line("all", number(row.cells), "", number(row.cells_per_mm2)),
          ...kinds.map((kind) => line(kind.name, number(row[kind.name]), percent(row[`${kind.name}_fraction`]), number(row[`${kind.name}_per_mm2`]))),
        ),
        h("p", { className: "minor" }, `${number(row.tissue_mm2)} mm² of tissue in ${number(row.area_mm2)} mm²`),
        histogram(regions.by, row.histogram),
      );
    });
    measured.replaceChildren(...cards);
  }

  // ---- cells and state -----------------------------------------------------------------------------------------------

  showTip(cell: Cell | null, at: [number, number] | null): void {
    this.tip.hidden = !cell;
    if (!cell || !at) return;
    const kind = this.style.kind(cell.type)?.name ?? "no nucleus";
    const sure = cell.labelled ? ", by you" : ` ${Math.round(100 * cell.certainty)}%`;
    const measured = this.measure.text(cell.step);
    this.tip.textContent = `${kind}${sure}, ${number(cell.areaUm2)} µm²${measured && `, ${measured}`}`;
    this.tip.style.left = `${at[0] + 14}px`;
    this.tip.style.top = `${at[1] + 14}px`;
  }

  async showCell(cell: Cell, url: string): Promise<void> {
    let rows: [string, string][];
    try {
      const all = await json<Record<string, unknown>>(`${url}/cells/${cell.row}`);
      rows = Object.entries(all).map(([name, value]) => [name, typeof value === "number" ? number(value) : String(value ?? "–")]);
    } catch (error) {
      rows = [["", (error as Error).message]];
    }
    this.cell.hidden = false;
    requestAnimationFrame(() => this.cell.scrollIntoView({ block: "nearest" }));
    this.cell.replaceChildren(
      h("h2", {}, "Nucleus"),
      h("table", {}, ...rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)))),
    );
  }

  hideCell(): void {
    this.cell.hidden = true;
  }

  showPlace(x: number, y: number): void {
    const um = (value: number): string => (value * this.page.mpp).toFixed(1);
    this.place.textContent = `x ${um(x)}, y ${um(y)} µm`;
  }

  showState(problem: string, points: PointsLayer, busy: boolean): void {
    this.say(problem, Boolean(problem));
    this.showDensityScale();
    const some = points.share < 0.995 ? `one nucleus of ${Math.round(1 / points.share)} is drawn; nearer, all are` : "";
    this.drawnShare.textContent = busy ? "loading ..." : some;
  }

  say(text: string, show: boolean): void {
    this.said.textContent = text;
    this.said.hidden = !show;
  }

  toggleHelp(): void {
    this.help.open = !this.help.open;
    if (this.help.open) this.help.scrollIntoView({ block: "nearest" });
  }
}

function percent(value: unknown): string {
  return typeof value === "number" ? `${(100 * value).toFixed(1)}%` : "–";
}

/** Bars of a measure in a region; said in words for who does not see them. */
function histogram(name: string, of: Histogram | undefined): HTMLElement | null {
  if (!of) return null;
  const most = Math.max(1, ...of.counts);
  const canvas = h("canvas", { className: "histogram", width: 12 * of.counts.length, height: 60, role: "img" });
  const mode = of.counts.indexOf(Math.max(...of.counts));
  const middle = of.low + ((mode + 0.5) / of.counts.length) * (of.high - of.low);
  canvas.setAttribute("aria-label", `${name} from ${number(of.low)} to ${number(of.high)}, most often about ${number(middle, 2)}`);
  const context = canvas.getContext("2d")!;
  context.fillStyle = "#1d4f91";
  of.counts.forEach((n, i) => context.fillRect(12 * i, 60 - (58 * n) / most, 11, (58 * n) / most));
  return h("figure", {}, canvas, h("figcaption", { className: "minor" }, `${name}: ${number(of.low)} to ${number(of.high)}`));
}
