/*
 * The charts of the page.
 */

import { coloursOf, figure } from "./charts.js";
import { bare, capital, count, interval, percent, points, probability, significant } from "./words.js";

/**
 * Accuracy with intervals: a row for each model in each benchmark, with a ring for each seed where it is an arm of several.
 * `axes` are what benchmark and model are called in the table.
 */
export function accuracyFigure(scores, models, title = "Accuracy", meaning = "share of answers that are right", axes = AXES) {
  const rows = scores.filter((score) => score.accuracy !== null);
  if (!rows.length) return null;
  const benchmarks = [...new Set(rows.map((score) => score.benchmark))];
  const colours = coloursOf(models);
  const bounds = (score) => (score.interval ?? [score.accuracy, score.accuracy]).map(hundredfold);
  const seeds = rows.flatMap((score) => (score.seed_accuracies ?? []).map((seed) => ({ ...score, seed: hundredfold(seed) })));
  const ends = [...rows.flatMap(bounds), ...seeds.map(({ seed }) => seed)];
  const domain = [Math.min(...ends), Math.max(...ends)];
  const named = Math.min(150, 14 + 6.6 * Math.max(...benchmarks.map((name) => name.length)));
  const valued = Math.min(190, 62 + 6.4 * Math.max(...models.map((name) => name.length)));
  return figure({
    title,
    note: `${meaning}, ${intervalWords(rows)}`,
    label: rows.map((score) => `${score.benchmark}, ${score.model}: ${percent(score.accuracy)}`).join("; "),
    draw: () => ({
      height: 44 + 24 * rows.length + 14 * benchmarks.length,
      marginLeft: named,
      marginRight: valued,
      marginTop: 6,
      x: { domain, nice: true, grid: true, label: "accuracy, %", ticks: 5 },
      y: { domain: models, axis: null },
      fy: { domain: benchmarks, label: null, padding: 0.12 },
      color: colours,
      marks: [
        Plot.axisFy({ anchor: "left", fontSize: 12, textAnchor: "end", dx: -6 }),
        Plot.ruleY(rows, {
          fy: "benchmark",
          y: "model",
          x1: (score) => bounds(score)[0],
          x2: (score) => bounds(score)[1],
          stroke: "model",
          strokeWidth: 2,
        }),
        Plot.dot(rows, { fy: "benchmark", y: "model", x: (score) => hundredfold(score.accuracy), fill: "model", r: 4.5 }),
        Plot.dot(seeds, { fy: "benchmark", y: "model", x: "seed", stroke: "model", r: 3 }),
        Plot.text(rows, {
          fy: "benchmark",
          y: "model",
          x: (score) => bounds(score)[1],
          dx: 9,
          textAnchor: "start",
          fill: "currentColor",
          text: (score) => `${score.model} ${percent(score.accuracy)}`,
        }),
      ],
    }),
    headings: [
      ...axes,
      "Accuracy, %",
      "Interval",
      "By boxes alone, %",
      "Problems",
      "Samples",
      "Majority, %",
      "Cut, %",
      "No box, %",
      "Failed, %",
    ],
    rows: rows.map((score) => [
      score.benchmark,
      score.model,
      bare(score.accuracy),
      interval(score.interval) + (score.interval_kind ? ` (${score.interval_kind})` : ""),
      score.strict ? `${bare(score.strict["avg@k"])}, ${interval(score.strict.interval)}` : bare(null),
      count(score.num_problems),
      count(score.num_samples),
      bare(score.maj_at_k),
      bare(score.truncated),
      bare(score.unboxed),
      bare(score.failed),
    ]),
  });
}

const AXES = ["Benchmark", "Model"];

function intervalWords(rows) {
  const kinds = [...new Set(rows.map((score) => score.interval_kind).filter(Boolean))];
  return rows.some((score) => score.interval) ? `95\u202f% intervals${kinds.length === 1 ? ` (${kinds[0]})` : ""}` : "without intervals";
}

/** Accuracy of the arms of a comparison, over their seeds. */
export function armsFigure(arms) {
  const scores = arms.map((arm) => ({ ...arm, model: arm.name }));
  const names = [...new Set(scores.map(({ model }) => model))];
  return accuracyFigure(scores, names, "Accuracy of the arms", "mean of their seeds, which are rings");
}

/** Differences between models on the same problems. */
export function differencesFigure(comparison) {
  const rows = comparison?.differences ?? [];
  if (!rows.length) return null;
  const named = rows.map((row) => ({
    ...row,
    name: [row.benchmark, row.name].filter(Boolean).join(": "),
    bounds: row.interval ?? [row.difference, row.difference],
  }));
  const extent = [Math.min(0, ...named.map((row) => row.bounds[0])), Math.max(0, ...named.map((row) => row.bounds[1]))].map(hundredfold);
  const chance = (row) => ((row.p_holm ?? row.p ?? null) === null ? "" : `, p ${probability(row.p_holm ?? row.p).replace(/^(?!<)/, "= ")}`);
  const against = comparison.reference ? `to ${comparison.reference}, ` : "";
  return figure({
    title: "Differences",
    note: `${against}paired on the same problems, in points; an interval that crosses zero shows nothing`,
    label: named.map((row) => `${row.name}: ${points(row.difference)} points, ${interval(row.bounds, points)}${chance(row)}`).join("; "),
    draw: (width) => differencesPlot(named, extent, chance, width),
    headings: ["Comparison", "Difference, points", "Interval", "p", "p after Holm"],
    rows: named.map((row) => [
      row.name,
      points(row.difference),
      interval(row.interval, points),
      probability(row.p),
      probability(row.p_holm),
    ]),
  });
}

/** On a narrow screen names stand above their rows, not beside them. */
function differencesPlot(rows, domain, chance, width) {
  const isNarrow = width < 480;
  const longest = 10 + 6.6 * Math.max(...rows.map((row) => row.name.length));
  const names = Plot.text(rows, { y: "name", frameAnchor: "left", dy: -15, textAnchor: "start", text: "name", fill: "var(--quiet)" });
  return {
    height: 58 + (isNarrow ? 46 : 26) * rows.length,
    marginTop: isNarrow ? 14 : 6,
    marginLeft: isNarrow ? 8 : Math.min(0.45 * width, longest),
    marginRight: 130,
    x: { domain, nice: true, grid: true, label: "difference, points", ticks: isNarrow ? 3 : 5 },
    y: { label: null, domain: rows.map((row) => row.name), tickSize: 0, axis: isNarrow ? null : "left" },
    marks: [
      isNarrow ? names : null,
      Plot.ruleX([0], { stroke: "currentColor" }),
      Plot.ruleY(rows, {
        y: "name",
        x1: (row) => hundredfold(row.bounds[0]),
        x2: (row) => hundredfold(row.bounds[1]),
        stroke: "var(--series-1)",
        strokeWidth: 2,
      }),
      Plot.dot(rows, { y: "name", x: (row) => hundredfold(row.difference), r: 4.5, fill: "var(--series-1)" }),
      Plot.text(rows, {
        y: "name",
        x: (row) => Math.max(0, hundredfold(row.bounds[1])),
        dx: 9,
        textAnchor: "start",
        text: (row) => `${points(row.difference)}${chance(row)}`,
      }),
    ],
  };
}

/** pass@k with its band, a figure for each benchmark in which several k were asked for. */
export function passFigures(scores, models) {
  const colours = coloursOf(models);
  const several = scores.filter((score) => score.pass_at_k.length > 1);
  return [...new Set(several.map((score) => score.benchmark))].map((benchmark) => {
    const rows = several
      .filter((score) => score.benchmark === benchmark)
      .flatMap((score) => score.pass_at_k.map((point) => ({ model: score.model, ...point })));
    const banded = rows.filter((row) => row.band);
    return figure({
      title: `pass@k, ${benchmark}`,
      note: banded.length ? "with its band" : "",
      label: rows.map((row) => `${row.model}, k = ${row.k}: ${percent(row.value)}`).join("; "),
      colours,
      draw: () => ({
        height: 210,
        marginLeft: 36,
        marginRight: 14,
        x: { type: "log", base: 2, label: "k", ticks: [...new Set(rows.map((row) => row.k))], tickFormat: String },
        y: { percent: true, grid: true, nice: true, label: "solved, %", ticks: 4 },
        color: colours,
        marks: [
          Plot.areaY(banded, { x: "k", y1: (row) => row.band[0], y2: (row) => row.band[1], fill: "model", fillOpacity: 0.14 }),
          Plot.lineY(rows, { x: "k", y: "value", stroke: "model", strokeWidth: 2 }),
          Plot.dot(rows, { x: "k", y: "value", fill: "model", r: 2.5 }),
        ],
      }),
      headings: ["Model", "k", "pass@k, %", "Band"],
      rows: rows.map((row) => [row.model, String(row.k), bare(row.value), interval(row.band)]),
    });
  });
}

/** How long attempts, critiques and refinements are. */
export function lengthsFigure(lengths) {
  if (!lengths) return null;
  const { edges, turns } = lengths;
  const bins = turns.flatMap(({ turn, counts }) =>
    counts.map((number, place) => ({ turn, number, x1: edges[place], x2: edges[place + 1] })),
  );
  return figure({
    title: "Lengths",
    note: "in generated tokens; the line is the median",
    label: turns
      .map((turn) => `${turn.turn}: median ${significant(turn.median)}, greatest ${count(turn.greatest)}, ${count(turn.cut)} cut`)
      .join("; "),
    draw: () => ({
      height: 36 + 74 * turns.length,
      marginLeft: 82,
      marginRight: 8,
      x: { label: "tokens", domain: [0, edges.at(-1)], ticks: 6 },
      y: { axis: null },
      fy: { label: null, domain: turns.map(({ turn }) => turn), padding: 0.16 },
      marks: [
        Plot.axisFy({ anchor: "left", fontSize: 12, dx: -6 }),
        Plot.rectY(bins, { fy: "turn", x1: "x1", x2: "x2", y: "number", fill: "var(--series-1)", fillOpacity: 0.75, inset: 0.5 }),
        Plot.ruleX(turns, { fy: "turn", x: "median", stroke: "currentColor", strokeWidth: 1.5 }),
        Plot.ruleY(turns, { fy: "turn", y: () => 0, stroke: "var(--line)" }),
      ],
    }),
    headings: ["Turn", "Median", "95 % are below", "Greatest", "Cut at the limit"],
    rows: turns.map((turn) => [
      capital(turn.turn),
      significant(turn.median),
      significant(turn.percentile_95),
      count(turn.greatest),
      count(turn.cut),
    ]),
  });
}

function hundredfold(share) {
  return 100 * share;
}
