// Elements in one expression. Nothing is ever parsed as HTML: names of slides may hold any characters.

type Child = Node | string | null;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Record<string, unknown> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in element && !name.startsWith("aria")) Object.assign(element, { [name]: value });
    else element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child): child is Node | string => child !== null));
  return element;
}

export function count(n: number): string {
  return n.toLocaleString("en-GB");
}

export function number(value: unknown, digits = 3): string {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 10 ** digits) return count(Math.round(value));
  return value.toLocaleString("en-GB", { maximumSignificantDigits: digits });
}

export function save(blob: Blob, name: string): void {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function button(text: string, does: () => void, title = ""): HTMLButtonElement {
  const made = h("button", { type: "button", title }, text);
  made.onclick = does;
  return made;
}
