/*
 * What a training looked like, step by step.
 */

import { coloursOf, figure } from "./charts.js";
import { bare, capital, count, interval, percent, significant } from "./words.js";

/** Loss with held-out loss, gradient norm, and accuracy on held-out problems, over the steps of each run. */
export function curveFigures(runs) {
  const trained = runs.filter((run) => run.training);
  if (!trained.length) return [];
  const colours =
    trained.length > 1 ? coloursOf(trained.map((run) => run.label)) : { domain: [trained[0].label], range: ["var(--series-1)"] };
  const series = (key) =>
    trained.flatMap(({ label, training }) => training.step.map((step, place) => ({ run: label, step, value: training[key][place] })));
  const heldOut = trained.flatMap(({ label, training }) => training.held_out.map(([step, value]) => ({ run: label, step, value })));
  const measured = trained.flatMap(({ label, training }) =>
    training.measured.map((point) => ({ run: label, ...point, value: point.accuracy })),
  );
  const thinned = Math.max(...trained.map(({ training }) => training.steps_per_point));
  const range = thinned > 1 ? `, of up to ${thinned} steps a point` : "";
  return [
    curve({
      title: "Loss",
      note: `of target tokens${heldOut.length ? "; dots: on held-out problems" : ""}${range}`,
      rows: series("loss"),
      dots: heldOut,
      colours,
      axis: "loss",
    }),
    curve({
      title: "Gradient norm",
      note: `before clipping${range}`,
      rows: series("grad_norm"),
      dots: [],
      colours,
      axis: "norm",
      type: "log",
    }),
    measured.length ? measuredFigure(measured, colours) : null,
  ];
}

function curve({ title, note, rows, dots, colours, axis, type }) {
  const finite = rows.filter((row) => row.value !== null);
  if (!finite.length) return null;
  const logarithmic = type === "log" && finite.every((row) => row.value > 0);
  const perRun = Math.max(1, Math.round(rows.length / colours.domain.length));
  const smooth = Math.max(1, Math.round(perRun / 25));
  const [first, last] = [finite[0], finite.at(-1)];
  return figure({
    title,
    note,
    label: `From ${significant(first.value)} at step ${first.step} to ${significant(last.value)} at step ${last.step}`,
    colours,
    draw: () => ({
      height: 230,
      marginLeft: 48,
      marginRight: 10,
      x: { label: "step", ticks: 6 },
      y: logarithmic
        ? { type: "log", grid: true, label: axis, ticks: 4, tickFormat: significant }
        : { zero: true, nice: true, grid: true, label: axis, ticks: 5 },
      color: colours,
      marks: [
        Plot.lineY(rows, { x: "step", y: "value", stroke: "run", strokeWidth: 1, strokeOpacity: smooth > 1 ? 0.3 : 1 }),
        smooth > 1
          ? Plot.lineY(rows, Plot.windowY({ k: smooth, strict: false }, { x: "step", y: "value", stroke: "run", strokeWidth: 2 }))
          : null,
        Plot.lineY(dots, { x: "step", y: "value", stroke: "run", strokeWidth: 1 }),
        Plot.dot(dots, { x: "step", y: "value", fill: "run", stroke: "currentColor", r: 3.5 }),
      ],
    }),
    headings: ["Run", "Step", capital(axis)],
    rows: sparse(finite)
      .concat(dots)
      .map((row) => [row.run, count(row.step), significant(row.value)]),
  });
}

function measuredFigure(rows, colours) {
  const bounded = rows.filter((row) => row.interval);
  return figure({
    title: "Held-out accuracy",
    note: "of checkpoints, with 95\u202f% intervals",
    label: rows.map((row) => `step ${row.step}: ${percent(row.value)}`).join("; "),
    colours,
    draw: () => ({
      height: 230,
      marginLeft: 40,
      x: { label: "step", ticks: 6 },
      y: { percent: true, grid: true, nice: true, label: "accuracy, %", ticks: 5 },
      color: colours,
      marks: [
        Plot.ruleX(bounded, { x: "step", y1: (row) => row.interval[0], y2: (row) => row.interval[1], stroke: "run", strokeWidth: 2 }),
        Plot.lineY(rows, { x: "step", y: "value", stroke: "run" }),
        Plot.dot(rows, { x: "step", y: "value", fill: "run", r: 4 }),
      ],
    }),
    headings: ["Run", "Step", "Accuracy, %", "Interval"],
    rows: rows.map((row) => [row.run, count(row.step), bare(row.value), interval(row.interval)]),
  });
}

/** At most 50 of the points, the last among them: a table of a thousand lines helps nobody. */
function sparse(rows) {
  const every = Math.ceil(rows.length / 50);
  return rows.filter((_, place) => place % every === 0 || place === rows.length - 1);
}
