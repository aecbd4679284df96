// The part of the panel that corrects: which type nuclei get, what was given, and those that are worth a label.

import { json } from "./api";
import { button, count, h } from "./dom";
import { DELETED, type Labels } from "./labels";
import type { Style } from "./style";

const SUGGESTED = 50;

interface Calls {
  /** Looks changed: labels are on or off, there is a type more. */
  changed: () => void;
  select: () => void;
  goTo: (x: number, y: number, row: number) => void;
}

export class LabelPanel {
  readonly element: HTMLElement;
  private readonly on = h("button", { type: "button", id: "labelling", "aria-pressed": "false", title: "key e" }, "Correct types");
  private readonly tools = h("div", { hidden: true });
  private readonly kinds = h("div", { className: "buttons", role: "group", "aria-label": "Type of the chosen nuclei" });
  private readonly told = h("div", { role: "status" });
  private readonly undo: HTMLButtonElement;
  private readonly redo: HTMLButtonElement;
  private readonly next: HTMLElement;
  private readonly step = h("span", { role: "status" });
  private suggested: [number, number, number][] = [];
  private at = -1;

  constructor(
    private readonly url: string,
    private readonly style: Style,
    private readonly labels: Labels,
    private readonly calls: Calls,
  ) {
    this.on.onclick = () => this.toggle();
    this.undo = button("Undo", () => void labels.undo(), "key u");
    this.redo = button("Redo", () => void labels.redo(), "key U");
    const name = h("input", { type: "text", placeholder: "a type of your own", "aria-label": "Name of a new type", maxLength: 60 });
    const add = button("Add", () => {
      if (labels.addType(name.value)) name.value = "";
      this.show();
      calls.changed();
    });
    name.onkeydown = (event) => event.key === "Enter" && add.click();
    this.next = h("div", { className: "buttons", hidden: true }, button("Back", () => this.go(-1), "key b"), button("Next", () => this.go(1), "key n"), button("End", () => this.end()));
    this.tools.append(
      h("p", { className: "minor" }, "Click a nucleus (with Shift for more), or choose those in an area; then press the number of a type."),
      h("div", { className: "buttons" }, button("Choose in an area", calls.select, "key a"), button(`Show ${SUGGESTED} worth a label`, () => void this.suggest(), "key n")),
      this.next,
      this.step,
      this.kinds,
      h("div", { className: "row" }, name, add),
      h("div", { className: "buttons" }, this.undo, this.redo),
      this.told,
    );
    this.element = h("section", {}, h("h2", {}, "Correct"), h("div", { className: "buttons" }, this.on), this.tools);
    this.show();
  }

  toggle(on = !this.style.labelling): void {
    this.style.labelling = on;
    if (!on) {
      this.labels.chosen.clear();
      this.end();
    }
    this.on.setAttribute("aria-pressed", String(on));
    this.tools.hidden = !on;
    this.show();
    if (on) this.element.scrollIntoView({ block: "nearest" });
    this.calls.changed();
  }

  show(): void {
    const { labels, style } = this;
    const none = labels.chosen.size === 0;
    this.kinds.replaceChildren(
      ...style.kinds.map((kind, i) => {
        const swatch = h("span", { className: "swatch" });
        swatch.style.backgroundColor = style.css(kind);
        const made = button("", () => void this.give(i + 1), i < 9 ? `key ${i + 1}` : "");
        made.disabled = none;
        made.replaceChildren(swatch, i < 9 ? `${i + 1} ${kind.name}` : kind.name);
        return made;
      }),
      Object.assign(button("x No nucleus", () => void this.delete(), "key x"), { disabled: none }),
      Object.assign(button("No label", () => void this.clear(), "key Backspace"), { disabled: none }),
    );
    this.undo.disabled = !labels.canUndo;
    this.redo.disabled = !labels.canRedo;
    const of = labels.counts().map(([name, n]) => `${count(n)} ${name === DELETED ? "no nucleus" : name}`);
    const others = labels.others ? ` ${count(labels.others)} other objects of the file stay as they are.` : "";
    this.told.replaceChildren(
      ...(labels.problem ? [h("p", { className: "problem" }, labels.problem)] : []),
      h("p", { className: "minor" }, `${count(labels.chosen.size)} chosen. ${of.length ? `Labels: ${of.join(", ")}. Saved in ${labels.path}.${others}` : "No labels yet."}`),
    );
    this.step.textContent = this.at >= 0 && this.suggested.length ? `${this.at + 1} of ${this.suggested.length}, ${this.done()} labelled` : "";
    this.next.hidden = this.at < 0;
  }

  // ---- what keys do ------------------------------------------------------------------------------------------------------

  async give(number: number): Promise<void> {
    const kind = this.style.kinds[number - 1];
    if (kind) await this.label(kind.name);
  }

  delete(): Promise<void> {
    return this.label(DELETED);
  }

  clear(): Promise<void> {
    return this.label(null);
  }

  private async label(name: string | null): Promise<void> {
    const rows = [...this.labels.chosen];
    const mine = this.at >= 0 && rows.length === 1 && rows[0] === this.suggested[this.at]?.[0];
    if (mine && name !== null) this.go(1); // the next one comes while the answer does
    await this.labels.set(rows, name);
  }

  // ---- nuclei worth a label ----------------------------------------------------------------------------------------------

  async suggest(): Promise<void> {
    if (this.at >= 0) return this.go(1);
    this.step.textContent = "looking for nuclei that the model is least sure of ...";
    try {
      this.suggested = (await json<{ cells: [number, number, number][] }>(`${this.url}/suggestions?n=${SUGGESTED}`)).cells;
      this.toggle(true);
      this.at = -1;
      if (this.suggested.length) this.go(1);
      else this.step.textContent = "There is no nucleus without a label.";
    } catch (error) {
      this.step.textContent = (error as Error).message;
    }
  }

  go(by: number): void {
    if (!this.suggested.length) return;
    const at = this.at + by;
    if (at >= this.suggested.length) {
      this.labels.chosen.clear();
      this.end();
      this.step.textContent = "That was the last one.";
      this.calls.changed();
      return;
    }
    this.at = Math.max(0, at);
    const [row, x, y] = this.suggested[this.at];
    this.labels.chosen.clear();
    this.labels.chosen.add(row);
    this.show();
    this.calls.goTo(x, y, row);
  }

  private done(): number {
    return this.suggested.filter(([row]) => this.labels.names.has(row)).length;
  }

  private end(): void {
    [this.suggested, this.at] = [[], -1];
    this.show();
  }
}
