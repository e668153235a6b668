/*
 * A browser of many items: search, filters, a list, and the one that is chosen, whose address is in the page's own and can be sent on.
 */

import { element } from "./dom.js";
import { windowedList } from "./list.js";
import { count } from "./words.js";

const HIGHLIGHT = "found";
const MOST_HIGHLIGHTS = 500;
let current = null; // the browser that j, k and / are for

/**
 * A browser.
 *
 * name: of the items, in the plural, and of their key in the address;
 * keyOf(item), rowOf(item), textOf(item), detailOf(item): what names one, its row in the list, what is searched, and all there is of it;
 * filters: [{label, valuesOf(item), words(value)}]; controls: elements beside the chosen item's place.
 */
export function browser({ name, keyOf, rowOf, textOf, detailOf, filters, controls }) {
  let [items, shown, texts, key] = [[], [], null, null];
  const id = name.replaceAll(" ", "-");
  const search = element("input", {
    type: "search",
    id: `${id}-search`,
    placeholder: "Search",
    "aria-label": `Search ${name}`,
    oninput: apply,
    autocomplete: "off",
    spellcheck: "false",
  });
  const selects = filters.map((filter) => element("select", { "aria-label": filter.label, onchange: apply }));
  const found = element("p", { class: "found quiet", role: "status" });
  const list = windowedList({ id: `${id}-list`, label: name, draw: rowOf, choose });
  const detail = element("div", { class: "detail", id: `${id}-detail` });
  const position = element("span", { class: "quiet position" });
  const [previous, next] = [
    ["Previous", -1],
    ["Next", 1],
  ].map(([label, by]) =>
    element("button", { type: "button", "aria-label": `${label} of ${name}`, onclick: () => move(by) }, by < 0 ? "↑" : "↓"),
  );
  const box = element(
    "div",
    { class: "browser", onpointerdown: () => (current = handle), onfocusin: () => (current = handle) },
    element("div", { class: "filters", role: "search", "aria-label": name }, search, selects, found),
    list.box,
    element(
      "div",
      { class: "pane" },
      element("div", { class: "toolbar" }, previous, next, position, element("span", { class: "spring" }), controls ?? null),
      detail,
    ),
  );

  function apply() {
    const needle = search.value.trim().toLowerCase();
    if (needle) texts ??= items.map((item) => textOf(item).toLowerCase());
    const wanted = filters.map((filter, place) => [filter, selects[place].value]).filter(([, value]) => value);
    shown = items.filter(
      (item, place) =>
        (!needle || texts[place].includes(needle)) && wanted.every(([filter, value]) => filter.valuesOf(item).includes(value)),
    );
    found.textContent =
      shown.length === items.length ? `${count(items.length)} ${name}` : `${count(shown.length)} of ${count(items.length)} ${name}`;
    const place = shown.findIndex((item) => keyOf(item) === key);
    open(place < 0 ? 0 : place, false);
  }

  function open(place, isWanted) {
    const item = shown[place];
    list.show(shown, item ? place : -1);
    position.textContent = item ? `${count(place + 1)} of ${count(shown.length)}` : "";
    [previous.disabled, next.disabled] = [place <= 0, place >= shown.length - 1];
    if (item) key = keyOf(item);
    draw(item);
    if (item && isWanted) history.replaceState(null, "", `#${new URLSearchParams({ [name]: key })}`);
  }

  function draw(item) {
    detail.replaceChildren(...(item ? detailOf(item).flat().filter(Boolean) : [element("p", { class: "quiet" }, "Nothing is like that.")]));
    highlight(detail, search.value.trim().toLowerCase());
  }

  function choose(place) {
    open(place, true);
  }

  function move(by) {
    const place = shown.findIndex((item) => keyOf(item) === key) + by;
    if (place >= 0 && place < shown.length) open(place, true);
  }

  function fill(items) {
    filters.forEach((filter, place) => {
      const counts = new Map();
      for (const item of items) for (const value of filter.valuesOf(item)) counts.set(value, (counts.get(value) ?? 0) + 1);
      const before = selects[place].value;
      const options = [...counts]
        .sort((one, other) => other[1] - one[1])
        .map(([value, number]) => element("option", { value }, `${filter.words(value)} (${count(number)})`));
      selects[place].replaceChildren(element("option", { value: "" }, filter.label), ...options);
      selects[place].value = counts.has(before) ? before : "";
      selects[place].hidden = !counts.size;
    });
  }

  const handle = {
    box,
    name,
    move,
    search,
    /** Browse these items; what was chosen, searched and filtered stays so. */
    show(given) {
      [items, texts] = [given, null];
      fill(items);
      apply();
    },
    /** Draw the chosen item again, as after a change of how texts are shown. */
    redraw: () => draw(shown.find((item) => keyOf(item) === key)),
    /** Open the item of this key, whatever is searched and filtered; false when there is none. */
    reveal(wanted) {
      if (!items.some((item) => keyOf(item) === wanted)) return false;
      [search.value, key, current] = ["", wanted, handle];
      for (const select of selects) select.value = "";
      apply();
      return true;
    },
  };
  current ??= handle;
  return handle;
}

/** Open what the page's address names: #records=ID. */
export function followAddress(browsers) {
  const named = new URLSearchParams(location.hash.slice(1));
  for (const each of browsers) if (named.has(each.name) && each.reveal(named.get(each.name))) each.box.scrollIntoView();
}

/** j and k go through the browser that was used last, / searches it. */
export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (!current || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "j") current.move(1);
    else if (event.key === "k") current.move(-1);
    else if (event.key === "/") {
      event.preventDefault();
      current.search.focus();
    }
  });
}

/** Colours what was searched without touching the elements; browsers that cannot do so show the text as it is. */
function highlight(place, needle) {
  if (!globalThis.CSS?.highlights) return;
  CSS.highlights.delete(HIGHLIGHT);
  if (!needle) return;
  const ranges = [];
  const walker = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
  while (walker.nextNode() && ranges.length < MOST_HIGHLIGHTS) {
    const node = walker.currentNode;
    const text = node.data.toLowerCase();
    if (text.length !== node.data.length) continue; // a few letters grow when they become small
    for (let at = text.indexOf(needle); at >= 0 && ranges.length < MOST_HIGHLIGHTS; at = text.indexOf(needle, at + needle.length)) {
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + needle.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set(HIGHLIGHT, new Highlight(...ranges));
}
