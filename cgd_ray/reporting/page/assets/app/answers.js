/*
 * The browser of problems on which evaluated models disagree, with an answer of each.
 */

import { browser } from "./browser.js";
import { element, table } from "./dom.js";
import { grade } from "./records.js";
import { shownText, visible } from "./text.js";
import { count, counted, endWords, spoken } from "./words.js";

/** A browser of problems; `show(items)` fills it. */
export function answerBrowser(controls) {
  return browser({
    name: "answers",
    keyOf: (item) => `${item.benchmark}/${item.problem_id}`,
    rowOf: (item) => [
      element("span", { class: "name" }, visible((item.question ?? item.problem_id).slice(0, 160))),
      element("span", { class: "quiet" }, item.pattern),
    ],
    textOf: (item) =>
      [
        item.problem_id,
        item.question,
        item.reference_answer,
        ...Object.values(item.answers).flatMap(({ samples }) => samples.map(({ attempt }) => attempt)),
      ].join("\n"),
    detailOf: answerDetail,
    controls,
    filters: [
      { label: "Any benchmark", valuesOf: (item) => [item.benchmark], words: String },
      { label: "Any difference", valuesOf: (item) => item.differences, words: String },
    ],
  });
}

/** The problems of all benchmarks as items, each with the pattern of who is right. */
export function answerItems(disagreements) {
  return disagreements.flatMap(({ benchmark, problems, transitions }) =>
    problems.map((problem) => ({
      ...problem,
      benchmark,
      pattern: pattern(problem.answers),
      differences: differences(problem.answers, transitions),
    })),
  );
}

/** Which model does better than which, of those that are compared: "trained better than base". */
function differences(answers, transitions) {
  const share = (model) => answers[model].right / answers[model].of;
  return transitions.flatMap(({ before, after }) => {
    const by = share(after) - share(before);
    return by ? [by > 0 ? `${after} better than ${before}` : `${before} better than ${after}`] : [];
  });
}

/** "base ✗, trained ✓"; with several samples, how many of them. */
function pattern(answers) {
  return Object.entries(answers)
    .map(([model, { right, of }]) => (of === 1 ? `${model} ${right ? "✓" : "✗"}` : `${model} ${right}/${of}`))
    .join(", ");
}

/** How models compare on a benchmark: a sentence for two of them, a table for more. */
export function comparisons({ benchmark, transitions, num_common, num_different, problems }) {
  const sample =
    problems.length < num_different
      ? ` The page holds ${count(problems.length)} of the ${count(num_different)} on which they differ, drawn by hashes of their ids.`
      : "";
  const [first] = transitions;
  const found = [
    `${count(first.better)} are done better by ${first.after} than by ${first.before}`,
    `${count(first.worse)} worse`,
    `${count(first.alike)} alike`,
  ];
  const words = `: of ${counted(num_common, "problem")}, ${found.join(", ")}.`;
  const isPair = transitions.length === 1;
  const sentence = element("p", {}, element("b", {}, benchmark), isPair ? words : `: ${counted(num_common, "problem")}.`, sample);
  if (isPair) return sentence;
  const rows = transitions.map(({ before, after, better, worse, alike }) => [
    `${after} against ${before}`,
    count(better),
    count(worse),
    count(alike),
  ]);
  return element(
    "div",
    { class: "block" },
    sentence,
    table(`${benchmark}: problems done better and worse`, ["Models", "Better", "Worse", "Alike"], rows),
  );
}

function answerDetail(item) {
  return [
    element(
      "div",
      { class: "badges" },
      element(
        "a",
        { href: `#${new URLSearchParams({ answers: `${item.benchmark}/${item.problem_id}` })}`, class: "identity" },
        item.problem_id,
      ),
      element("span", { class: "badge" }, item.benchmark),
    ),
    element(
      "div",
      { class: "turn", role: "group", "aria-label": "Problem" },
      element("h3", {}, "Problem"),
      shownText(item.question ?? ""),
      item.reference_answer
        ? element("p", { class: "reference" }, "Reference answer ", element("span", { class: "answer" }, shownText(item.reference_answer)))
        : null,
    ),
    element(
      "div",
      { class: "turns" },
      Object.entries(item.answers).flatMap(([model, { samples, right, of }]) => samples.map((sample) => answer(model, sample, right, of))),
    ),
  ];
}

function answer(model, sample, right, of) {
  const facts = [
    of > 1 ? `${right} of ${of} samples right` : null,
    sample.attempt_tokens === undefined ? null : counted(sample.attempt_tokens, "token"),
    endWords(sample.attempt_finish_reason),
  ];
  const read = [
    sample.extracted ? `read as ${visible(sample.extracted.slice(0, 200))}` : null,
    sample.grade_reason ? spoken(sample.grade_reason) : null,
  ]
    .filter(Boolean)
    .join(", ");
  return element(
    "div",
    { class: "turn", role: "group", "aria-label": model },
    element(
      "h3",
      {},
      model,
      " ",
      grade(Boolean(sample.correct), sample.correct ? "right" : "wrong"),
      element("span", { class: "quiet" }, ` ${facts.filter(Boolean).join(", ")}`),
    ),
    sample.error ? element("p", { class: "error" }, visible(sample.error)) : null,
    sample.attempt_thinking ? element("details", {}, element("summary", {}, "Thinking"), shownText(sample.attempt_thinking)) : null,
    shownText(sample.attempt ?? ""),
    read ? element("p", { class: "quiet summary" }, read) : null,
  );
}
