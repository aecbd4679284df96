// What cells are coloured by besides their type, and which part of its range is shown.

import { bytes, type Page } from "./api";
import { h, number } from "./dom";
import { RAMP, STEPS, UNKNOWN } from "./shading";
import type { Style } from "./style";

export interface MeasureRange {
  low: number;
  high: number;
}

export class MeasurePanel {
  readonly element: HTMLElement;
  range: MeasureRange | null = null;
  steps: Uint8Array | null = null;
  private readonly choice: HTMLSelectElement;
  private readonly more = h("div", { hidden: true });
  private readonly scale = h("p", { className: "minor" });
  private readonly told = h("p", { className: "problem", role: "alert", hidden: true });
  private readonly ends: [HTMLInputElement, HTMLInputElement];
  private asked = 0;

  constructor(
    page: Page,
    private readonly url: string,
    private readonly style: Style,
    private readonly changed: () => void,
  ) {
    this.choice = h("select", { id: "measure" }, h("option", { value: "" }, "type"), ...page.measures.map((name) => h("option", { value: name }, name)));
    if (!page.measures.includes(style.measure)) style.measure = "";
    this.choice.value = style.measure;
    this.choice.onchange = () => {
      [style.measure, style.from, style.to] = [this.choice.value, 0, 1];
      void this.load();
    };
    this.ends = [this.slider("from", style.from), this.slider("to", style.to)];
    const ramp = h("div", { className: "ramp", "aria-hidden": "true" });
    ramp.style.background = `linear-gradient(to right, ${RAMP.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ")})`;
    this.more.append(
      ramp,
      this.scale,
      h("div", { className: "row" }, h("label", { htmlFor: "from" }, "Shown from"), this.ends[0]),
      h("div", { className: "row" }, h("label", { htmlFor: "to" }, "up to"), this.ends[1]),
    );
    this.element = h("div", {}, h("div", { className: "row" }, h("label", { htmlFor: "measure" }, "Colour by"), this.choice), this.more, this.told);
  }

  /** Fetch what the style says; the measure of none is none. */
  async load(): Promise<void> {
    const mine = ++this.asked;
    const name = this.style.measure;
    this.told.hidden = true;
    let [steps, range]: [Uint8Array | null, MeasureRange | null] = [null, null];
    if (name)
      try {
        const data = await bytes(`${this.url}/measures/${encodeURIComponent(name)}`);
        const [low, high] = new Float32Array(data, 0, 2);
        [steps, range] = [new Uint8Array(data, 8), { low, high }];
      } catch (error) {
        this.told.textContent = (error as Error).message;
        this.told.hidden = false;
        this.style.measure = this.choice.value = "";
      }
    if (mine !== this.asked) return; // another was chosen meanwhile
    [this.steps, this.range] = [steps, range];
    this.show();
    this.changed();
  }

  /** The measure of a cell from its step, as text; "" where cells are coloured by type. */
  text(step: number): string {
    if (!this.range) return "";
    const { low, high } = this.range;
    return `${this.style.measure} ${step === UNKNOWN ? "–" : `about ${number(low + (step / STEPS) * (high - low), 2)}`}`;
  }

  private slider(id: "from" | "to", value: number): HTMLInputElement {
    const input = h("input", { type: "range", id, min: "0", max: "1", step: "0.01", value: String(value) });
    input.oninput = () => {
      this.style[id] = Number(input.value);
      this.show();
      this.changed();
    };
    return input;
  }

  private show(): void {
    const { style, range } = this;
    this.more.hidden = !range;
    if (!range) return;
    const at = (share: number): string => number(range.low + share * (range.high - range.low));
    this.scale.textContent = `${at(0)} to ${at(1)}; shown: ${at(style.from)} to ${at(style.to)}`;
    this.ends.forEach((input, i) => {
      input.value = String(i ? style.to : style.from);
      input.setAttribute("aria-valuetext", at(Number(input.value)));
    });
  }
}
