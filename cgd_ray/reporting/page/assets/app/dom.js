/*
 * Elements, made so that what a model wrote is text and can never become markup.
 */

/**
 * An element with attributes and children: element("p", {class: "quiet", onclick: act}, "text", child).
 * Texts become text nodes; null and false are left out; `style` is an object of properties.
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [property, setting] of Object.entries(value)) made.style.setProperty(property, setting);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A table from plain rows; a cell may be a node. The first cell of a row is its heading. */
export function table(caption, headings, rows, attributes = {}) {
  const cells = (row) => row.map((cell, place) => element(place ? "td" : "th", place ? {} : { scope: "row" }, cell));
  return element(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    element(
      "table",
      attributes,
      element("caption", { class: "unseen" }, caption),
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          headings.map((heading) => element("th", { scope: "col" }, heading)),
        ),
      ),
      element(
        "tbody",
        {},
        rows.map((row) => element("tr", {}, cells(row))),
      ),
    ),
  );
}

/** A part of the page, to which the navigation leads. `fill` gives it new content before what stays; with none it is hidden. */
export function part(id, heading, ...lasting) {
  const content = element("div", {});
  const box = element(
    "section",
    { id, "aria-labelledby": `${id}-heading`, hidden: true },
    element("h2", { id: `${id}-heading` }, heading),
    content,
    lasting,
  );
  return {
    box,
    fill(...children) {
      const present = children.filter(Boolean);
      content.replaceChildren(...present);
      box.hidden = !present.length;
    },
  };
}
