/*
 * The browser of records: a problem, the attempt, the critique, the refinement with its changes, and what was decided on them.
 */

import { browser } from "./browser.js";
import { element } from "./dom.js";
import { shownChanges, shownGains, shownText, view, visible } from "./text.js";
import { capital, count, counted, endWords, spoken } from "./words.js";

/** A browser of records; `show(items)` fills it. */
export function recordBrowser(controls) {
  return browser({
    name: "records",
    keyOf: (record) => record.key,
    rowOf: recordRow,
    textOf: (record) => SEARCHED.map((name) => record[name] ?? "").join("\n"),
    detailOf: recordDetail,
    controls,
    filters: [
      { label: "Any run", valuesOf: (record) => (record.run ? [record.run] : []), words: String },
      { label: "Any outcome", valuesOf: (record) => [record.outcome], words: (value) => capital(spoken(value)) },
      { label: "Any verdict", valuesOf: (record) => [record.verdict ?? "missing"], words: (value) => `Verdict ${value}` },
      { label: "Any leak", valuesOf: (record) => record.leaks ?? [], words: (value) => capital(spoken(value)) },
    ],
  });
}

const SEARCHED = ["record_id", "problem_id", "question", "reference_answer", "attempt", "critique", "refinement", "direct", "error"];

/** A mark of right or wrong that needs no colour to be read. */
export function grade(isRight, words) {
  if (isRight === undefined || isRight === null) return null;
  return element("span", { class: isRight ? "badge right" : "badge wrong" }, `${isRight ? "✓" : "✗"} ${words}`);
}

function recordRow(record) {
  const [first] = (record.question ?? "").split("\n", 1);
  return [
    element("span", { class: "name" }, visible(first.slice(0, 160))),
    element(
      "span",
      { class: `quiet outcome ${record.outcome}` },
      capital(spoken(record.outcome)),
      record.leaks?.length ? ` · ${counted(record.leaks.length, "leak")}` : "",
      record.run ? ` · ${record.run}` : "",
    ),
  ];
}

function recordDetail(record) {
  const changes = view.changes && record.attempt && record.refinement ? shownChanges(record.attempt, record.refinement) : null;
  const gains = view.gains && record.token_gains;
  const refinement = gains ? shownGains(record.token_gains) : changes?.after;
  return [
    element(
      "div",
      { class: "badges" },
      element("a", { href: `#${new URLSearchParams({ records: record.key })}`, class: "identity" }, record.record_id),
      record.verdict ? element("span", { class: "badge" }, `verdict ${record.verdict}`) : null,
      grade(record.attempt_correct, "attempt"),
      grade(record.refinement_correct, "refinement"),
      (record.leaks ?? []).map((leak) => element("span", { class: "badge warning" }, spoken(leak))),
      record.drop_reason ? element("span", { class: "badge wrong" }, `dropped: ${spoken(record.drop_reason)}`) : null,
    ),
    record.error ? element("p", { class: "error" }, visible(record.error)) : null,
    turn(
      record,
      "question",
      "Problem",
      shownText(record.question ?? ""),
      record.reference_answer
        ? element(
            "p",
            { class: "reference" },
            "Reference answer ",
            element("span", { class: "answer" }, shownText(record.reference_answer)),
          )
        : null,
    ),
    element(
      "div",
      { class: "turns" },
      turn(record, "attempt", "Attempt", changes?.before),
      turn(record, "critique", "Critique"),
      turn(
        record,
        "refinement",
        "Refinement",
        refinement,
        changes && !gains ? element("p", { class: "quiet summary" }, changeSummary(changes)) : null,
      ),
      turn(record, "direct", "Direct answer"),
      record.reference_solution
        ? element("details", { class: "turn" }, element("summary", {}, "Reference solution"), shownText(record.reference_solution))
        : null,
    ),
  ];
}

/** How far the refinement is from the attempt, in words and formulas. */
function changeSummary({ numRemoved, numAdded }) {
  return numRemoved || numAdded ? `Against the attempt, ${count(numRemoved)} gone and ${count(numAdded)} new` : "The same as the attempt";
}

/** One text with its heading; `body` in place of the plain text, where it is shown in another way. */
function turn(record, name, title, body, besides) {
  const text = record[name];
  if (text === undefined) return null;
  const tokens = record[`${name}_tokens`];
  const facts = [
    tokens === undefined ? null : counted(tokens, "token"),
    endWords(record[`${name}_finish_reason`]),
    cutWords(record.cut?.[name]),
  ];
  const thinking = record[`${name}_thinking`];
  return element(
    "div",
    { class: "turn", role: "group", "aria-label": title },
    element("h3", {}, title, element("span", { class: "quiet" }, ` ${facts.filter(Boolean).join(", ")}`)),
    thinking ? element("details", {}, element("summary", {}, "Thinking"), shownText(thinking)) : null,
    body ?? shownText(text),
    besides ?? null,
  );
}

function cutWords(length) {
  return length ? `${count(length)} characters, of which the page holds the first part` : null;
}
