/*
 * What `cgd diagnose` has found: what critiques explain, how good the teacher was, how the answers' form has drifted.
 */

import { figure } from "./charts.js";
import { element, table } from "./dom.js";
import { accuracyFigure } from "./figures.js";
import { bare, capital, count, counted, interval, nats, percent, points } from "./words.js";

const MODELS = { base: ["before training", "var(--series-0)"], trained: ["after training", "var(--series-1)"] };

const SHOWN = ["alone", "with critique"];
const SIDES = { held_out: "held out of the training", training: "that were trained on" };

/** What was measured of a run; null for what was not. */
export function diagnoses({ losses, explained, conditioned, teacher, drift }) {
  return [lossesFigure(losses), explanations(explained), conditionedFigure(conditioned), teacherTable(teacher), driftTable(drift)];
}

/** The loss on the refinements in each context, before and after the training. */
function lossesFigure(losses) {
  if (!losses) return null;
  const { contexts, models } = losses;
  const dots = contexts.flatMap((context) => models.map((model) => ({ given: context.given, model, value: context[model] })));
  const told = (context) => models.map((model) => nats(context[model])).join(" → ");
  return figure({
    title: "Loss on refinements, by what the student sees",
    note: `x the problem, y' the attempt, c the critique; ${recordWords(losses)}`,
    label: contexts.map((context) => `Given ${context.given}: ${told(context)}`).join("; "),
    colours: { domain: models.map((model) => MODELS[model][0]), range: models.map((model) => MODELS[model][1]) },
    draw: (width) => lossesPlot(contexts, dots, told, width),
    headings: ["Given", ...models.map((model) => capital(MODELS[model][0]))],
    rows: contexts.map((context) => [context.given, ...models.map((model) => nats(context[model]))]),
  });
}

/** On a narrow screen contexts stand above their rows, not beside them. */
function lossesPlot(contexts, dots, told, width) {
  const isNarrow = width < 480;
  const longest = 14 + 6.6 * Math.max(...contexts.map(({ given }) => given.length));
  const ends = ({ given }) => dots.filter((point) => point.given === given).map(({ value }) => value);
  const names = Plot.text(contexts, { y: "given", frameAnchor: "left", dy: -15, textAnchor: "start", text: "given", fill: "var(--quiet)" });
  return {
    height: 58 + (isNarrow ? 46 : 30) * contexts.length,
    marginTop: isNarrow ? 14 : 6,
    marginLeft: isNarrow ? 8 : longest,
    marginRight: 110,
    x: { zero: true, nice: true, grid: true, label: "nats per token", ticks: isNarrow ? 3 : 5 },
    y: { label: null, domain: contexts.map(({ given }) => given), tickSize: 0, axis: isNarrow ? null : "left" },
    marks: [
      isNarrow ? names : null,
      Plot.ruleX([0], { stroke: "var(--line)" }),
      Plot.ruleY(contexts, {
        y: "given",
        x1: (context) => Math.min(...ends(context)),
        x2: (context) => Math.max(...ends(context)),
        stroke: "var(--line)",
        strokeWidth: 2,
      }),
      Plot.dot(dots, { y: "given", x: "value", r: 4.5, fill: ({ model }) => MODELS[model][1] }),
      Plot.text(contexts, { y: "given", x: (context) => Math.max(...ends(context)), dx: 9, textAnchor: "start", text: told }),
    ],
  };
}

function recordWords({ side, sampled, of, problems, target_tokens: tokens }) {
  return `${counted(sampled, "record")} of ${count(of)} ${SIDES[side]}, ${counted(problems, "problem")}, ${counted(tokens, "token")}`;
}

/** Differences of those losses; what may as well be zero is grey and said to be so. */
function explanations(rows) {
  if (!rows.length) return null;
  const models = Object.keys(MODELS).filter((model) => rows.some((row) => row[model]));
  const cell = (found) => {
    if (!found) return "–";
    const error = found.standard_error === null ? "" : ` ±\u00a0${nats(found.standard_error)}`;
    const silent = found.shows ? null : element("span", { class: "unseen" }, " (shows nothing)");
    return element("span", { class: found.shows ? null : "quiet" }, `${nats(found.mean)}${error}`, silent);
  };
  return block(
    "What explains the refinements",
    "± standard error; what is grey, within two of zero, shows nothing",
    ["Nats per token", ...models.map((model) => capital(MODELS[model][0]))],
    rows.map((row) => [row.is_part ? element("span", { class: "part" }, row.what) : capital(row.what), ...models.map((model) => cell(row[model]))]),
  );
}

/** Accuracy with and without the critique, and what it adds. */
function conditionedFigure(conditioned) {
  if (!conditioned) return null;
  const { students, problems, side } = conditioned;
  const scores = students.flatMap(({ student, alone, given_critique: given }) =>
    [
      [SHOWN[0], alone],
      [SHOWN[1], given],
    ].map(([model, score]) => ({ ...score, benchmark: MODELS[student][0].replace(" training", ""), model, num_problems: problems, num_samples: 1 })),
  );
  const added = students.map(
    ({ student, difference, difference_interval: bounds }) => `${points(difference)} (${interval(bounds, points)}) ${MODELS[student][0]}`,
  );
  const meaning = `on ${counted(problems, "problem")} ${SIDES[side]}; the critique adds ${added.join(", ")}, in points`;
  return accuracyFigure(scores, SHOWN, "Accuracy with a critique", meaning, ["Training", "Problem"]);
}

/** The teacher against the reference answers: its verdicts, and what it solves within k answers. */
function teacherTable(teacher) {
  if (!teacher) return null;
  const { critiques, judged, k: numbers, solved } = teacher;
  const line = ({ what, values }) => [capital(what), ...numbers.map((k) => (k in values ? percent(values[k]) : ""))];
  return element(
    "div",
    { class: "block" },
    element("h3", {}, "The teacher", element("span", { class: "quiet" }, ` against the reference answers, ${counted(critiques, "critique")}`)),
    table(
      "Verdicts of the teacher",
      ["Verdicts", "Share"],
      judged.map(([what, share]) => [capital(what), percent(share)]),
    ),
    solved.length ? table("Right answers of the teacher", ["Right answers", ...numbers.map((k) => `k = ${k}`)], solved.map(line)) : null,
  );
}

/** Form of the answers, untrained → trained, a row for each benchmark. */
function driftTable(rows) {
  if (!rows.length) return null;
  const columns = [
    ["boxed", "Boxed, %", bare],
    ["truncated", "Cut, %", bare],
    ["mentions_review", "Speak of the review, %", bare],
    ["looping", "Run in circles, %", bare],
    ["median_tokens", "Median tokens", count],
  ];
  return block(
    "Form of the answers",
    "before → after training",
    ["Benchmark", ...columns.map(([, words]) => words)],
    rows.map(({ benchmark, base, trained }) => [
      benchmark,
      ...columns.map(([name, , words]) => `${words(base[name])}\u00a0→ ${words(trained[name])}`),
    ]),
  );
}

function block(title, note, headings, rows) {
  const heading = element("h3", {}, title, element("span", { class: "quiet" }, ` ${note}`));
  return element("div", { class: "block" }, heading, table(title, headings, rows, { class: "close" }));
}
