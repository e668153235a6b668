/*
 * A figure: a title, a chart that is drawn again when its width changes, and the same numbers as a table.
 */

import { element, table } from "./dom.js";

/** Colours of models and runs, in their order; each is readable on light and dark paper. */
export const SERIES = [0, 1, 2, 3, 4, 5, 6, 7].map((place) => `var(--series-${place})`);

/** The colour of each name: the first is the one that others are compared with, and is grey. More names than colours share one. */
export function coloursOf(names) {
  return { domain: names, range: names.map((_, place) => SERIES[names.length > SERIES.length ? Math.min(place, 1) : place]) };
}

/** Names with their colours, where lines have no labels of their own. */
export function legend(colours) {
  if (colours.domain.length < 2 || colours.domain.length > SERIES.length) return null;
  const entries = colours.domain.map((name, place) =>
    element("li", {}, element("i", { style: { background: colours.range[place] }, "aria-hidden": "true" }), name),
  );
  return element("ul", { class: "legend" }, entries);
}

/**
 * A figure whose `draw(width)` gives the options of a plot.
 * `label` says in a sentence what a reader who does not see the chart should know; `headings` and `rows` are its numbers.
 */
export function figure({ title, note, label, colours, draw, headings, rows }) {
  const place = element("div", { class: "plot" });
  const made = element(
    "figure",
    {},
    element("figcaption", {}, element("strong", {}, title), note ? element("span", {}, ` ${note}`) : null),
    colours ? legend(colours) : null,
    place,
    element("details", {}, element("summary", {}, "As a table"), table(title, headings, rows)),
  );
  let drawn = 0;
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.floor(contentRect.width);
    if (!width || width === drawn) return;
    drawn = width;
    const chart = Plot.plot({
      width,
      marginBottom: 38,
      style: { background: "none", fontSize: "12px", fontFamily: "inherit" },
      ...draw(width),
    });
    asImage(chart, `${title}. ${label}`);
    place.replaceChildren(chart);
  }).observe(place);
  return made;
}

/** One picture with one label for a screen reader. Plot labels each mark, which nobody could make sense of: those names serve the style. */
function asImage(chart, label) {
  for (const mark of chart.querySelectorAll("[aria-label]")) {
    mark.dataset.mark = mark.getAttribute("aria-label");
    mark.removeAttribute("aria-label");
  }
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", label);
}
