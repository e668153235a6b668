/*
 * What models wrote: LaTeX as formulas, changes between two texts, gains of tokens. All of it is text nodes, or KaTeX's own elements.
 */

import { element } from "./dom.js";
import { count } from "./words.js";

const MOST_AT_FIRST = 20_000; // characters of a text, until all is asked for
const MOST_FORMULAS = 400; // of one text that are drawn; the others stay as written
const LONGEST_FORMULA = 2_000; // characters
const DIFF_TIMEOUT_MS = 400;
const KATEX = { trust: false, throwOnError: false, maxExpand: 100, maxSize: 10, strict: "ignore", errorColor: "var(--wrong)" };
/** Kinds of formulas, none longer than LONGEST_FORMULA: what is opened again and again and never closed must not be searched for ever. */
const INSIDE = `[\\s\\S]{1,${LONGEST_FORMULA}}?`;
const MATH = new RegExp(
  [
    String.raw`\$\$(${INSIDE})\$\$`,
    String.raw`\\\[(${INSIDE})\\\]`,
    String.raw`\\\((${INSIDE})\\\)`,
    String.raw`\$((?:[^\s$\\]|\\.)(?:[^$\n]{0,${LONGEST_FORMULA}}?[^\s$\\])?)\$(?!\d)`, // no prices: no space inside, no digit after
    String.raw`(\\begin\{(\w+\*?)\}${INSIDE}\\end\{\6\})`,
    String.raw`(\\(?:boxed|frac|sqrt)\{)`,
  ].join("|"),
  "g",
);
const WORD = /\s+|\d+(?:[.,]\d+)*|[\p{L}\p{M}_]+|./gsu;
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** How texts are shown; the same for all of them. */
export const view = { latex: true, changes: true, gains: false };

/** A text: as words and formulas. */
export function shownText(text) {
  return box(text, (part) => drawn(pieces(part), budget()));
}

/** Two texts side by side: what is gone is marked in the first, what is new in the second. Null when the comparison would take too long. */
export function shownChanges(before, after) {
  const [old, young] = [before, after].map((text) =>
    pieces(text.slice(0, MOST_AT_FIRST)).flatMap((piece) => (piece.math ? [piece] : words(piece.source))),
  );
  const changes = Diff.diffArrays(
    old.map(({ source }) => source),
    young.map(({ source }) => source),
    { timeout: DIFF_TIMEOUT_MS },
  );
  if (!changes) return null;
  const joined = joinedOverSpaces(changes);
  return {
    before: box(before, () => marked(joined, old, "removed", "added", "del")),
    after: box(after, () => marked(joined, young, "added", "removed", "ins")),
    numRemoved: numWords(joined, "removed"),
    numAdded: numWords(joined, "added"),
  };
}

/** Tokens on a ground that is the darker the more each one gains. */
export function shownGains(tokens) {
  const most = Math.max(0.1, ...tokens.map(([, gain]) => Math.abs(gain)));
  const shade = ([token, gain]) =>
    element(
      "span",
      {
        class: gain < 0 ? "loses" : "gains",
        style: { "--gain": String(Math.abs(gain) / most) },
        title: `${gain < 0 ? "−" : "+"}${Math.abs(gain).toFixed(2)} nats`,
      },
      visible(token),
    );
  return element("div", { class: "text" }, tokens.map(shade));
}

/** Text in which nothing is hidden: control characters, and marks that turn the direction of reading, are shown by their codes. */
export function visible(text) {
  return text.replace(HIDDEN, (found) => `⟨${found.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** The beginning of a long text, and a button for the rest. */
function box(text, draw) {
  const place = element("div", { class: "text", dir: "auto" });
  place.append(draw(text.slice(0, MOST_AT_FIRST)));
  if (text.length <= MOST_AT_FIRST) return place;
  const more = element(
    "button",
    { type: "button", class: "rest", onclick: () => place.replaceChildren(drawn(pieces(text), budget())) },
    `Show all ${count(text.length)} characters`,
  );
  place.append("… ", more);
  return place;
}

function budget() {
  return { formulas: MOST_FORMULAS };
}

/** The text in pieces, formulas apart: [{source, math?, display}]. */
function pieces(text) {
  if (!view.latex) return [{ source: text }];
  const found = [];
  let end = 0;
  for (const match of text.matchAll(MATH)) {
    if (match.index < end) continue;
    const whole = match[7] ? balanced(text, match.index, match[0].length) : match[0];
    if (whole === null) continue;
    if (match.index > end) found.push({ source: text.slice(end, match.index) });
    const inner = match[1] ?? match[2] ?? match[3] ?? match[4] ?? whole;
    found.push({ source: whole, math: inner, display: match[1] !== undefined || match[2] !== undefined || match[5] !== undefined });
    end = match.index + whole.length;
  }
  if (end < text.length) found.push({ source: text.slice(end) });
  return found;
}

/** A command with its argument, or both arguments of a fraction; null where its braces do not close within the longest formula. */
function balanced(text, start, opening) {
  let [depth, place] = [1, start + opening];
  const limit = Math.min(text.length, start + LONGEST_FORMULA);
  let remaining = text.startsWith("\\frac", start) ? 2 : 1;
  for (; place < limit; place += 1) {
    if (text[place] === "\\") place += 1;
    else if (text[place] === "{") depth += 1;
    else if (text[place] === "}" && --depth === 0) {
      remaining -= 1;
      if (!remaining) return text.slice(start, place + 1);
      if (text[place + 1] !== "{") return null;
    }
  }
  return null;
}

function words(source) {
  return (source.match(WORD) ?? []).map((word) => ({ source: word }));
}

/** Nodes of pieces; neighbouring words become one text node. */
function drawn(parts, left) {
  const fragment = document.createDocumentFragment();
  let plain = "";
  const flush = () => {
    if (plain) fragment.append(visible(plain));
    plain = "";
  };
  for (const piece of parts) {
    if (piece.math === undefined || piece.math.length > LONGEST_FORMULA || left.formulas <= 0) {
      plain += piece.source;
      continue;
    }
    flush();
    left.formulas -= 1;
    fragment.append(formula(piece));
  }
  flush();
  return fragment;
}

function formula({ source, math, display }) {
  const place = element("span", { class: display ? "formula display" : "formula" });
  try {
    katex.render(math, place, { ...KATEX, displayMode: display });
  } catch {
    place.textContent = source; // KaTeX throws for what is no text to it
  }
  return place;
}

/** A space between two changed words belongs to the change: a sentence that is new is one mark, and not a mark for each word. */
function joinedOverSpaces(changes) {
  const isChange = (change) => change && (change.added || change.removed);
  const isSpace = ({ value }) => value.every((word) => /^[^\S\n]+$/.test(word));
  return changes.flatMap((change, place) => {
    if (isChange(change) || !isSpace(change) || !isChange(changes[place - 1]) || !isChange(changes[place + 1])) return [change];
    return [
      { ...change, removed: true },
      { ...change, added: true },
    ];
  });
}

/** The pieces of one side; a run of changes is one element. */
function marked(changes, parts, mine, other, tag) {
  const [fragment, left] = [document.createDocumentFragment(), budget()];
  let [place, changed] = [0, []];
  const flush = () => {
    if (changed.length) fragment.append(element(tag, {}, drawn(changed, left)));
    changed = [];
  };
  for (const change of changes) {
    if (change[other]) continue;
    const own = parts.slice(place, place + change.value.length);
    place += change.value.length;
    if (change[mine]) changed.push(...own);
    else {
      flush();
      fragment.append(drawn(own, left));
    }
  }
  flush();
  return fragment;
}

function numWords(changes, kind) {
  return changes.filter((change) => change[kind]).reduce((sum, { value }) => sum + value.filter((word) => word.trim()).length, 0);
}
