/*
 * What can be said of a run in a heading, in sentences and in small tables.
 */

import { element, table } from "./dom.js";
import { capital, count, counted, duration, percent, points, significant, spoken } from "./words.js";

/** The title, what came out of it in a sentence for each benchmark, and the facts. */
export function heading(payload) {
  const [run] = payload.runs;
  const found = payload.comparison;
  const single = payload.runs.length === 1;
  return element(
    "header",
    { class: "heading" },
    element(
      "p",
      { class: "eyebrow" },
      single ? "Critique-guided distillation, one run" : `Critique-guided distillation, ${payload.runs.length} runs`,
    ),
    element("h1", {}, single ? run.label : "Comparison"),
    outcomes(payload).map((sentence) => element("p", { class: "lead" }, sentence)),
    found?.sentence ? element("p", { class: "lead" }, found.sentence) : null,
    Object.entries(found?.least_effect ?? {}).map(([benchmark, effect]) => element("p", { class: "quiet" }, `${benchmark}: ${effect}`)),
    single
      ? factList(run, true)
      : element(
          "details",
          { class: "more" },
          element("summary", {}, "The runs"),
          payload.runs.map((each) => factList(each, false)),
        ),
  );
}

/** How accuracy changed, for at most three benchmarks. */
function outcomes({ evaluation }) {
  const benchmarks = [...new Set(evaluation.map((score) => score.benchmark))];
  return benchmarks.slice(0, 3).flatMap((benchmark) => {
    const score = (model) => evaluation.find((found) => found.benchmark === benchmark && found.model === model);
    const [base, trained] = [score("base"), score("trained")];
    if (!base || !trained) return [];
    const where =
      benchmark === "problems" ? counted(base.num_problems, "problem") : `${benchmark} (${counted(base.num_problems, "problem")})`;
    return [
      element(
        "span",
        {},
        `On ${where}, accuracy went from `,
        element("b", {}, percent(base.accuracy)),
        " to ",
        element("b", {}, percent(trained.accuracy)),
        `: ${points(trained.accuracy - base.accuracy)} points.`,
      ),
    ];
  });
}

function factList({ label, facts }, isAlone) {
  const list = (shown) =>
    element(
      "dl",
      { class: "facts" },
      shown.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    );
  if (!isAlone) return [element("h2", {}, label), list(facts)];
  const [open, closed] = [facts.filter(([name]) => !QUIET.has(name)), facts.filter(([name]) => QUIET.has(name))];
  return [list(open), element("details", { class: "more" }, element("summary", {}, "Directory and versions"), list(closed))];
}

const QUIET = new Set(["directory", "versions"]);

/** What a reader should know of; `attributes` are the list's own. */
export function advisoryList(found, attributes = {}) {
  const items = found.map(({ level, title, detail }) =>
    element("li", { class: `advisory ${ADVISORY_LEVELS.has(level) ? level : "note"}` }, element("strong", {}, title), " ", detail),
  );
  return element("ul", { class: "advisories", "aria-label": "Advisories", ...attributes }, items);
}

const ADVISORY_LEVELS = new Set(["note", "warning", "error"]);

/** From problems to trained examples: a bar for each stage, and below it what was lost on the way. */
export function funnel(stages) {
  if (!stages.length) return null;
  const most = Math.max(...stages.map((stage) => stage.count), 1);
  const rows = stages.flatMap((stage) => [
    ...Object.entries(stage.lost).map(([reason, lost]) => barRow(`− ${spoken(reason)}`, lost, most, "lost")),
    barRow(capital(stage.name), stage.count, most, "stage"),
  ]);
  return bars("From problems to trained examples", rows, ["Stage", "How many"]);
}

/** Counts beside each other, each with its share of `total`. */
export function distribution(title, counts, total, note) {
  const entries = Object.entries(counts ?? {});
  if (!entries.length) return null;
  const rows = entries.map(([name, number]) => barRow(capital(spoken(name)), number, total, "stage", percent(number / total)));
  return bars(title, rows, ["", "Records", "Share"], note);
}

function barRow(name, number, most, kind, share) {
  const bar = element("span", { class: "bar", style: { "--share": String(number / most) } });
  return element(
    "tr",
    { class: kind },
    element("th", { scope: "row" }, name),
    element("td", { class: "number" }, count(number)),
    share === undefined ? null : element("td", { class: "number quiet" }, share),
    element("td", { class: "fill", "aria-hidden": "true" }, bar),
  );
}

function bars(title, rows, headings, note) {
  return element(
    "div",
    { class: "block" },
    element("h3", {}, title, note ? element("span", { class: "quiet" }, ` ${note}`) : null),
    element(
      "table",
      { class: "bars" },
      element("caption", { class: "unseen" }, title),
      element(
        "thead",
        { class: "unseen" },
        element(
          "tr",
          {},
          [...headings, "Bar"].map((text) => element("th", { scope: "col" }, text || "Name")),
        ),
      ),
      element("tbody", {}, rows),
    ),
  );
}

/** Attempts against refinements, right and wrong. */
export function repairMatrix(repair) {
  if (!repair) return null;
  return matrix("Repair", "what became of the attempts", "Attempt", "Refinement", (before, after) => repair[`${before}_to_${after}`] ?? 0);
}

/** The teacher's verdicts against the grades of the attempts, and how many critiques are nothing but a verdict. */
export function verdictMatrix(judged, numEmpty) {
  if (!Object.keys(judged).length) return null;
  const number = (grade, verdict) => judged[`${verdict}_${grade}`] ?? 0;
  const verdicts = ["right", "wrong", ...(number("right", "missing") + number("wrong", "missing") ? ["missing"] : [])];
  const empty = numEmpty ? `; ${counted(numEmpty, "critique")} without a word more` : "";
  return matrix("Verdicts", `of the teacher, against the reference${empty}`, "Attempt", "Verdict", number, verdicts);
}

function matrix(title, note, rowName, columnName, number, columns = ["right", "wrong"]) {
  const rows = ["right", "wrong"];
  const total = rows.flatMap((row) => columns.map((column) => number(row, column))).reduce((sum, value) => sum + value, 0);
  if (!total) return null;
  const cell = (row, column) => {
    const share = number(row, column) / total;
    return element(
      "td",
      { class: "cell", style: { "--share": String(share) } },
      element("b", {}, count(number(row, column))),
      element("span", {}, percent(share)),
    );
  };
  return element(
    "div",
    { class: "block" },
    element("h3", {}, title, element("span", { class: "quiet" }, ` ${note}`)),
    element(
      "table",
      { class: "matrix" },
      element("caption", { class: "unseen" }, `${title}, ${note}`),
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          element("td", {}),
          columns.map((column) => element("th", { scope: "col" }, `${columnName} ${column}`)),
        ),
      ),
      element(
        "tbody",
        {},
        rows.map((row) =>
          element(
            "tr",
            {},
            element("th", { scope: "row" }, `${rowName} ${row}`),
            columns.map((column) => cell(row, column)),
          ),
        ),
      ),
    ),
  );
}

/** What the records cost, by role and for a kept one; columns in which nothing is known are left out. */
export function ledger(costs) {
  if (!costs) return null;
  const columns = [
    ["prompt_tokens", "Tokens in", count],
    ["prefix_hits", "From the cache", (share) => percent(share, 0)],
    ["generated_tokens", "Tokens out", count],
    ["engine_seconds", "Engine time", duration],
    ["gpu_seconds", "GPU seconds", significant],
    ["cost", `Cost${costs.currency ? `, ${costs.currency}` : ""}`, significant],
  ].filter(([key]) => costs.rows.some((row) => row[key]));
  const line = (name, row, exact) => [name, ...columns.map(([key, , words]) => (exact && words === count ? significant : words)(row[key]))];
  const sum = Object.fromEntries(
    columns.map(([key]) => [key, key === "prefix_hits" ? null : costs.rows.reduce((total, row) => total + (row[key] ?? 0), 0)]),
  );
  const each = costs.per_kept_record;
  const lines = [...costs.rows.map((row) => line(capital(row.name), row)), line("Both", sum), line("For each kept record", each, true)];
  return element(
    "div",
    { class: "block" },
    element("h3", {}, "Cost of the records"),
    table("Cost of the records", ["Made by", ...columns.map(([, name]) => name)], lines, { class: "ledger" }),
    trainingCost(costs.training),
  );
}

function trainingCost(training) {
  if (!training) return null;
  const utilisation = training.mfu ? `, ${percent(training.mfu)} of the devices' peak` : "";
  return element(
    "p",
    { class: "quiet" },
    `Training: ${count(training.tokens)} tokens, ${count(training.target_tokens)} of them targets, ` +
      `${count(training.tokens_per_s)} tokens/s on ` +
      `${counted(training.world_size, "worker")}, ${significant(training.peak_gib)} GiB at most${utilisation}.`,
  );
}

/** What each arm of a comparison cost: its records and its mean training. */
export function armCosts(rows) {
  const columns = [
    ["target_tokens", "Tokens trained", count],
    ["student_tokens", "Student's tokens", count],
    ["teacher_tokens", "Teacher's tokens", count],
    ["engine_seconds", "Engines", duration],
    ["worker_seconds", "Workers", duration],
    ["gpu_seconds", "GPU time", duration],
    ["cost", "Paid", significant],
  ].filter(([key]) => rows.some((row) => row[key]));
  if (!columns.length) return null;
  const lines = rows.map((row) => [row.name, ...columns.map(([key, , words]) => words(row[key]))]);
  const title = "Cost of the arms";
  return element("div", { class: "block" }, element("h3", {}, title), table(title, ["Arm", ...columns.map(([, name]) => name)], lines));
}

/** Shares of a time, as one bar with a list. */
export function timeBar(title, spent, note) {
  const total = spent.reduce((sum, { seconds }) => sum + seconds, 0);
  const present = spent.filter(({ seconds }) => seconds / total > 0.0005);
  if (!total) return null;
  const colour = (place) => ({ "--share": String(present[place].seconds / total), "--shade": `${Math.max(20, 88 - 17 * place)}%` });
  return element(
    "div",
    { class: "block" },
    element("h3", {}, title, element("span", { class: "quiet" }, ` ${duration(total)}${note ? `, ${note}` : ""}`)),
    element(
      "div",
      { class: "stack", "aria-hidden": "true" },
      present.map((_, place) => element("span", { style: colour(place) })),
    ),
    element(
      "dl",
      { class: "keys" },
      present.map(({ name, seconds }, place) =>
        element(
          "div",
          {},
          element("dt", {}, element("i", { style: colour(place), "aria-hidden": "true" }), capital(spoken(name))),
          element("dd", {}, `${duration(seconds)}, ${percent(seconds / total, 0)}`),
        ),
      ),
    ),
  );
}
