import "./style.css";
import { h } from "./dom";
import { showComparison } from "./compare_page";
import { showGallery } from "./gallery";
import { showSlide } from "./slide_page";

const main = document.getElementById("main")!;
let leave: (() => void) | null = null;
let shown = "";

async function show(): Promise<void> {
  const place = /^#\/(\d+)(?:\/(\d+))?(?:\?(.*))?$/.exec(location.hash);
  const page = place ? `${place[1]}/${place[2] ?? ""}` : "";
  if (leave && page === shown) return; // the page itself writes the rest of the address
  leave?.();
  leave = null;
  shown = page;
  try {
    const view = new URLSearchParams(place?.[3] ?? "");
    if (place?.[2]) leave = await showComparison(main, Number(place[1]), Number(place[2]), view);
    else if (place) leave = await showSlide(main, Number(place[1]), view);
    else await showGallery(main);
  } catch (error) {
    main.replaceChildren(
      h("div", { className: "gallery" }, h("p", { className: "problem", role: "alert" }, (error as Error).message), h("a", { href: "#/" }, "All results")),
    );
  }
}

window.addEventListener("hashchange", () => void show());
void show();
