// The buttons Teach and Name again, and what the taught model is worth.

import { sent, type Page } from "./api";
import { button, h } from "./dom";

interface Three {
  value: number | null;
  low: number | null;
  high: number | null;
}

interface Report {
  labels: Record<string, number>;
  groups: number;
  grouped_by: string;
  macro_f1: Three;
  parent_macro_f1: number | null;
  f1: Record<string, Three>;
  parent_f1: Record<string, number | null>;
}

interface Taught {
  model: string;
  number: number;
  report: Report;
  notes: string[];
  notice: string;
}

export function teachPanel(page: Page, url: string, number: number): HTMLElement {
  const told = h("div", { role: "status" });
  const keep = h("input", { type: "checkbox", checked: true });
  let model = -1;
  const work = async (text: string, does: () => Promise<Node[]>): Promise<void> => {
    [teach.disabled, name.disabled] = [true, true];
    told.replaceChildren(h("p", { className: "minor" }, text));
    try {
      told.replaceChildren(...(await does()));
    } catch (error) {
      told.replaceChildren(h("p", { className: "problem" }, (error as Error).message));
    }
    [teach.disabled, name.disabled] = [false, model < 0];
  };
  const teach = button("Teach", () =>
    work("teaching ...", async () => {
      const taught = await sent<Taught>(`${url}/teach`, { keep: keep.checked });
      model = taught.number;
      return [...scores(taught)];
    }),
  );
  const name = button("Name again", () =>
    work("naming ...", async () => {
      const named = await sent<{ result: number; path: string }>(`${url}/name`, { model });
      return [
        h("p", {}, `Named again in ${named.path}: `, h("a", { href: `#/${named.result}` }, "look at it"), " or ", h("a", { href: `#/${number}/${named.result}` }, "compare"), "."),
      ];
    }),
  );
  [teach.disabled, name.disabled] = [page.teach_problem !== null, true];
  return h(
    "section",
    {},
    h("h2", {}, "Teach"),
    page.teach_problem ? h("p", { className: "minor" }, page.teach_problem) : null,
    h("label", { className: "check" }, keep, "keep types without labels"),
    h("div", { className: "buttons" }, teach, name),
    told,
  );
}

function scores(taught: Taught): Node[] {
  const { report } = taught;
  const cell = (value: number | null): string => (value === null ? "–" : value.toFixed(2));
  const line = (name: string, n: number, f1: Three, before: number | null): HTMLElement =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, String(n)), h("td", {}, `${cell(f1.value)} (${cell(f1.low)}–${cell(f1.high)})`), h("td", {}, cell(before)));
  const all = Object.values(report.labels).reduce((sum, n) => sum + n, 0);
  return [
    h(
      "table",
      {},
      h("caption", {}, `F1 of labelled nuclei that were held out, by ${report.groups} ${report.grouped_by} (95% interval)`),
      h("tr", {}, h("td"), ...["labels", "F1", "before"].map((text) => h("th", { scope: "col" }, text))),
      ...Object.entries(report.labels).map(([name, n]) => line(name, n, report.f1[name], report.parent_f1[name])),
      line("mean", all, report.macro_f1, report.parent_macro_f1),
    ),
    ...taught.notes.map((note) => h("p", { className: "warning" }, note)),
    h("p", { className: "minor" }, `The model is ${taught.model}. ${taught.notice}`),
  ];
}
