// Two results of one slide, side by side and linked, and what changed from the first to the second.

import { json, type Page } from "./api";
import { button, count, h } from "./dom";
import { SlidePage } from "./slide_page";

export type Place = [number, number, string | null, string | null];

interface Changes {
  both: number;
  only_a: number;
  only_b: number;
  renamed: number;
  moves: [string, string, number][];
  places: Place[];
}

export async function showComparison(main: HTMLElement, one: number, other: number, given: URLSearchParams): Promise<() => void> {
  const [first, second] = [`api/results/${one}`, `api/results/${other}`];
  const changes = await json<Changes>(`api/compare/${one}/${other}`);
  const [a, b] = await Promise.all([json<Page>(first), json<Page>(second)]);
  const left = new SlidePage(one, first, a, given, `#/${one}/${other}`);
  const right = new SlidePage(other, second, b, new URLSearchParams(), null);
  left.lead(right);
  const panel = new ComparePanel(a, b, changes, (places) => [left, right].forEach((page) => page.mark(places)), (x, y) => left.goTo(x, y));
  left.add(panel.element);
  document.title = `${a.name} and ${b.name} - cytolite`;
  main.replaceChildren(h("div", { className: "slide compare" }, left.stage, right.stage, left.panelElement));
  left.caption(`${a.name}: ${a.model}`);
  right.caption(`${b.name}: ${b.model}`);
  right.start();
  left.start((key) => panel.key(key));
  return () => {
    left.leave();
    right.leave();
  };
}

class ComparePanel {
  readonly element: HTMLElement;
  private readonly step = h("span", { role: "status" });
  private readonly rows: HTMLButtonElement[] = [];
  private places: Place[];
  private at = -1;

  constructor(
    a: Page,
    b: Page,
    private readonly changes: Changes,
    private readonly mark: (places: Place[]) => void,
    private readonly goTo: (x: number, y: number) => void,
  ) {
    this.places = changes.places;
    const share = changes.both ? (100 * changes.renamed) / changes.both : 0;
    this.element = h(
      "section",
      {},
      h("h2", {}, "What changed"),
      h("p", {}, `${count(changes.both)} nuclei are in both, ${count(changes.renamed)} of them (${share.toFixed(1)}%) have another type. ${count(changes.only_a)} are on the left alone, ${count(changes.only_b)} on the right alone.`),
      this.counts(a, b),
      h("div", { className: "buttons" }, this.choice("all changes", changes.places), ...this.choices()),
      h("div", { className: "buttons" }, button("Previous", () => this.go(-1), "key b"), button("Next", () => this.go(1), "key n"), this.step),
    );
    this.show(this.rows[0], changes.places);
  }

  key(key: string): boolean {
    if (key !== "n" && key !== "b") return false;
    this.go(key === "n" ? 1 : -1);
    return true;
  }

  private counts(a: Page, b: Page): HTMLElement {
    const names = [...new Set([...Object.keys(a.types), ...Object.keys(b.types)])];
    return h(
      "table",
      {},
      h("tr", {}, h("td"), ...["left", "right", "change"].map((text) => h("th", { scope: "col" }, text))),
      ...names.map((name) => {
        const [x, y] = [a.types[name] ?? 0, b.types[name] ?? 0];
        return h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, count(x)), h("td", {}, count(y)), h("td", {}, y > x ? `+${count(y - x)}` : count(y - x)));
      }),
    );
  }

  private choices(): HTMLButtonElement[] {
    const { moves, places } = this.changes;
    const fits = (from: string | null, to: string | null): Place[] => places.filter((place) => place[2] === from && place[3] === to);
    const renamed = moves.filter(([from, to]) => from !== to).slice(0, 12);
    const made = renamed.map(([from, to, n]) => this.choice(`${from} → ${to} ${count(n)}`, fits(from, to)));
    if (this.changes.only_a) made.push(this.choice(`left alone ${count(this.changes.only_a)}`, places.filter((place) => place[3] === null)));
    if (this.changes.only_b) made.push(this.choice(`right alone ${count(this.changes.only_b)}`, places.filter((place) => place[2] === null)));
    return made;
  }

  private choice(text: string, places: Place[]): HTMLButtonElement {
    const made = button(text, () => this.show(made, places));
    this.rows.push(made);
    return made;
  }

  private show(chosen: HTMLButtonElement, places: Place[]): void {
    for (const row of this.rows) row.setAttribute("aria-pressed", String(row === chosen));
    [this.places, this.at] = [places, -1];
    this.mark(places);
    this.step.textContent = places.length ? `${count(places.length)} places` : "no place";
  }

  private go(by: number): void {
    if (!this.places.length) return;
    this.at = this.at < 0 && by < 0 ? this.places.length - 1 : (this.at + by + this.places.length) % this.places.length;
    const [x, y, from, to] = this.places[this.at];
    this.step.textContent = `${count(this.at + 1)} of ${count(this.places.length)}: ${from ?? "nothing"} → ${to ?? "nothing"}`;
    this.goTo(x, y);
  }
}
