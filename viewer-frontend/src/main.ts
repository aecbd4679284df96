import "./style.css";
import { h } from "./dom";
import { showGallery } from "./gallery";
import { showSlide } from "./slide_page";

const main = document.getElementById("main")!;
let leave: (() => void) | null = null;
let shown = "";

async function show(): Promise<void> {
  const place = /^#\/(\d+)(?:\?(.*))?$/.exec(location.hash);
  const page = place ? place[1] : "";
  if (leave && page === shown) return; // the page itself writes the rest of the address
  leave?.();
  leave = null;
  shown = page;
  try {
    if (place) leave = await showSlide(main, Number(place[1]), new URLSearchParams(place[2] ?? ""));
    else await showGallery(main);
  } catch (error) {
    main.replaceChildren(
      h("div", { className: "gallery" }, h("p", { className: "problem", role: "alert" }, (error as Error).message), h("a", { href: "#/" }, "All results")),
    );
  }
}

window.addEventListener("hashchange", () => void show());
void show();
