/*
 * A list of any length, of which only the rows in sight exist: a listbox with the keys that listboxes have.
 */

import { element } from "./dom.js";

const ROW_HEIGHT = 50; // pixels, as in style.css
const BEYOND = 6; // rows above and below those in sight

/** `draw(item)` gives the content of a row, `choose(place)` is told which one is wanted. */
export function windowedList({ id, label, draw, choose }) {
  const sheet = element("div", { class: "sheet", role: "presentation" });
  const box = element(
    "div",
    { id, class: "list", role: "listbox", tabindex: "0", "aria-label": label, onscroll: paint, onkeydown: press },
    sheet,
  );
  let [items, chosen] = [[], -1];
  new ResizeObserver(paint).observe(box);

  function paint() {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW_HEIGHT) - BEYOND);
    const last = Math.min(items.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW_HEIGHT) + BEYOND);
    sheet.replaceChildren(...items.slice(first, last).map((item, offset) => row(item, first + offset)));
    const isPainted = chosen >= first && chosen < last;
    if (isPainted) box.setAttribute("aria-activedescendant", `${id}-${chosen}`);
    else box.removeAttribute("aria-activedescendant");
  }

  function row(item, place) {
    return element(
      "div",
      {
        id: `${id}-${place}`,
        class: "row",
        role: "option",
        "aria-selected": String(place === chosen),
        "aria-posinset": place + 1,
        "aria-setsize": items.length,
        style: { top: `${place * ROW_HEIGHT}px` },
        onclick: () => choose(place),
      },
      draw(item),
    );
  }

  function press(event) {
    const page = Math.max(1, Math.floor(box.clientHeight / ROW_HEIGHT) - 1);
    const target = {
      ArrowDown: chosen + 1,
      ArrowUp: chosen - 1,
      PageDown: chosen + page,
      PageUp: chosen - page,
      Home: 0,
      End: items.length - 1,
    }[event.key];
    if (target === undefined || event.ctrlKey || event.metaKey || event.altKey || !items.length) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(items.length - 1, target)));
  }

  return {
    box,
    /** Show these items, the one at `place` chosen. */
    show(found, place) {
      [items, chosen] = [found, place];
      sheet.style.height = `${items.length * ROW_HEIGHT}px`;
      if (place >= 0) {
        const top = place * ROW_HEIGHT;
        if (top < box.scrollTop) box.scrollTop = top;
        else if (top + ROW_HEIGHT > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW_HEIGHT - box.clientHeight;
      }
      paint();
    },
  };
}
