// All results: pictures, counts, warnings; sorted and filtered by any of their numbers.

import { json, type Card, type Gallery } from "./api";
import { count, h, number } from "./dom";

type Value = number | string;

export function columns(cards: Card[]): Map<string, (card: Card) => Value> {
  const kinds = [...new Set(cards.flatMap((card) => Object.keys(card.types ?? {})))];
  return new Map<string, (card: Card) => Value>([
    ["name", (card) => card.name.toLowerCase()],
    ["finished", (card) => card.finished ?? ""],
    ["nuclei", (card) => card.cells ?? -1],
    ["tissue, mm²", (card) => card.tissue_mm2 ?? -1],
    ["nuclei per mm²", (card) => card.cells_per_mm2 ?? -1],
    ["warnings", (card) => (card.error ? Infinity : card.warnings.length)],
    ...kinds.map((kind): [string, (card: Card) => Value] => [
      `${kind}, share`,
      (card) => (card.cells ? (card.types[kind] ?? 0) / card.cells : -1),
    ]),
  ]);
}

/** Whether a card fits what was typed: words that all are in its texts, or a number as in "nuclei > 1000". */
export function fits(card: Card, query: string, of: Map<string, (card: Card) => Value>): boolean {
  const compared = /^\s*(.+?)\s*([<>])\s*([\d.]+)\s*$/.exec(query);
  const column = compared && [...of].find(([name]) => name.toLowerCase().startsWith(compared[1].toLowerCase()));
  if (compared && column) {
    const value = column[1](card);
    return typeof value === "number" && (compared[2] === ">" ? value > Number(compared[3]) : value < Number(compared[3]));
  }
  const text = [card.name, card.slide, card.model, card.error, ...(card.warnings ?? [])].join(" ").toLowerCase();
  return query.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

export async function showGallery(main: HTMLElement): Promise<void> {
  const gallery = await json<Gallery>("api/results");
  document.title = "cytolite: results";
  const numbered = gallery.results.map((card, i) => ({ card, i }));
  const of = columns(gallery.results);
  const sort = h("select", { id: "sort" }, ...[...of.keys()].map((name) => h("option", { value: name }, name)));
  const turn = h("button", { type: "button", "aria-pressed": "false" }, "Descending");
  const filter = h("input", { id: "filter", type: "search", placeholder: "name, warning, or nuclei > 10000" });
  const list = h("ul", { className: "cards" });
  const told = h("p", { className: "told", role: "status" });

  const show = (): void => {
    const value = of.get(sort.value)!;
    const down = turn.getAttribute("aria-pressed") === "true" ? -1 : 1;
    const found = numbered.filter(({ card }) => fits(card, filter.value, of));
    found.sort((a, b) => {
      const [x, y] = [value(a.card), value(b.card)];
      return down * (x < y ? -1 : x > y ? 1 : 0);
    });
    list.replaceChildren(...found.map(({ card, i }) => h("li", {}, cardOf(card, i))));
    told.textContent = `${count(found.length)} of ${count(numbered.length)} results`;
  };
  sort.onchange = filter.oninput = show;
  turn.onclick = () => {
    turn.setAttribute("aria-pressed", String(turn.getAttribute("aria-pressed") !== "true"));
    show();
  };
  main.replaceChildren(
    h(
      "div",
      { className: "gallery" },
      h("header", {}, h("h1", {}, "Results"), h("p", { className: "notice" }, gallery.notice)),
      h(
        "div",
        { className: "bar" },
        h("label", { htmlFor: "sort" }, "Sort by"),
        sort,
        turn,
        h("label", { htmlFor: "filter" }, "Filter"),
        filter,
        told,
      ),
      list,
    ),
  );
  show();
}

function cardOf(card: Card, i: number): HTMLElement {
  if (card.error !== undefined)
    return h("div", { className: "card broken" }, h("h2", {}, card.name), h("p", { className: "problem" }, card.error));
  const most = Object.entries(card.types).sort((a, b) => b[1] - a[1]).slice(0, 3);
  const share = (n: number): string => (card.cells ? ` ${Math.round((100 * n) / card.cells)}%` : "");
  return h(
    "a",
    { className: "card", href: `#/${i}` },
    h("img", { src: `api/results/${i}/thumbnail.jpg`, alt: "", loading: "lazy" }),
    h("h2", {}, card.name),
    h("p", {}, `${count(card.cells)} nuclei in ${number(card.tissue_mm2)} mm² of tissue (${number(card.cells_per_mm2)} per mm²)`),
    h("p", { className: "minor" }, most.map(([kind, n]) => `${kind}${share(n)}`).join(", ")),
    ...card.warnings.map((warning) => h("p", { className: "warning" }, warning)),
    h("p", { className: "minor" }, card.model),
  );
}
