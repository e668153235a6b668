/*
 * Unpacks the payload, lays the page out, and, beside a run that goes on, asks for a newer one.
 */

import { answerBrowser, answerItems, comparisons } from "./answers.js";
import { followAddress, listenToKeys } from "./browser.js";
import { element, part } from "./dom.js";
import { curveFigures } from "./curves.js";
import { diagnoses } from "./diagnosis.js";
import { accuracyFigure, armsFigure, differencesFigure, lengthsFigure, passFigures } from "./figures.js";
import { advisoryList, armCosts, distribution, funnel, heading, ledger, repairMatrix, timeBar, verdictMatrix } from "./overview.js";
import { recordBrowser } from "./records.js";
import { view } from "./text.js";
import { count } from "./words.js";

const VERSION = 1; // of the payload
const POLL_MS = 2000;

/** The page's parts that stay when a newer payload comes: what is searched, chosen and scrolled. */
const browsers = { records: recordBrowser(switches(["latex", "changes", "gains"])), answers: answerBrowser(switches(["latex"])) };
const state = element("p", { class: "live quiet", role: "status" });

/** How texts are shown, as switches. */
function switches(names) {
  const words = { latex: "Formulas", changes: "Changes", gains: "Gains of tokens" };
  const change = (name) => (event) => {
    view[name] = event.target.checked;
    for (const each of Object.values(browsers)) each.redraw();
    for (const other of document.querySelectorAll(`input[name="${name}"]`)) other.checked = view[name];
  };
  return names.map((name) =>
    element(
      "label",
      { class: `switch ${name}` },
      element("input", { type: "checkbox", name, checked: view[name], onchange: change(name) }),
      words[name],
    ),
  );
}

/** The page's frame, which stays when a newer payload comes: so does what is typed, chosen and scrolled. */
const frame = {
  heading: element("div", {}),
  links: element("ul", {}),
  advisories: element("div", {}),
  nothing: element("p", { class: "quiet" }, "Nothing has been made here yet."),
  results: part("results", "Results"),
  data: part("data", "Data"),
  training: part("training", "Training"),
  diagnostics: part("diagnostics", "Diagnostics"),
  cost: part("cost", "Cost and time"),
  records: part("records", "Records", browsers.records.box),
  answers: part("answers", "Answers on which models disagree", browsers.answers.box),
  footer: element("footer", { class: "quiet" }),
};

/** The parts in their order, as the navigation calls them. */
const LINKS = [
  ["results", "Results"],
  ["data", "Data"],
  ["training", "Training"],
  ["diagnostics", "Diagnostics"],
  ["cost", "Cost"],
  ["records", "Records"],
  ["answers", "Answers"],
];

function layOut() {
  const navigation = element("nav", { "aria-label": "Parts of the page" }, frame.links, state);
  const parts = LINKS.map(([name]) => frame[name].box);
  const main = element("main", { id: "content", tabindex: "-1" }, frame.advisories, frame.nothing, parts);
  document.getElementById("page").replaceChildren(frame.heading, navigation, main, frame.footer);
}

/** Everything that a payload holds. */
function show(payload, isLive) {
  if (payload.version !== VERSION)
    throw new Error(`This page reads payloads of version ${VERSION}, and this one is of version ${payload.version}.`);
  const { runs, answers } = payload;
  const isNamed = runs.length > 1;
  const sources = runs.filter((run) => run.data);
  const scores = payload.evaluation;
  const models = [...new Set(scores.map((score) => score.model))];
  frame.heading.replaceChildren(heading(payload));
  frame.advisories.replaceChildren(...(isLive ? [advisoryList(payload.advisories, { role: "status" })] : []));
  const { arms = [], costs = [] } = payload.comparison ?? {};
  frame.results.fill(
    grid(armsFigure(arms), differencesFigure(payload.comparison), accuracyFigure(scores, models), ...passFigures(scores, models)),
  );
  frame.data.fill(...sources.map((run) => ofRun(run, sources.length > 1, dataOf(run.data))));
  frame.training.fill(grid(...curveFigures(runs)));
  frame.diagnostics.fill(...runs.filter((run) => run.diagnosis).map((run) => ofRun(run, isNamed, diagnosed(run.diagnosis))));
  frame.cost.fill(grid(armCosts(costs)), ...runs.map((run) => ofRun(run, isNamed, costOf(run))));
  frame.records.fill(...recordNotes(sources));
  frame.answers.fill(grid(...answers.filter(({ problems }) => problems.length).map(comparisons)));
  frame.links.replaceChildren(
    ...LINKS.filter(([name]) => !frame[name].box.hidden).map(([name, words]) =>
      element("li", {}, element("a", { href: `#${name}` }, words)),
    ),
  );
  frame.nothing.hidden = LINKS.some(([name]) => !frame[name].box.hidden);
  const made = payload.made.replace("T", " ").replace("+00:00", " UTC");
  frame.footer.textContent = `Made ${made} from files of the run alone. Keys: j and k go through the records, / searches them.`;
  const named = ({ label }, record) =>
    sources.length > 1 ? { ...record, run: label, key: `${label}/${record.record_id}` } : { ...record, key: record.record_id };
  const records = sources.flatMap((run) => run.data.records.map((record) => named(run, record)));
  browsers.records.show(records);
  browsers.answers.show(answerItems(answers));
  document.body.classList.toggle(
    "has-gains",
    records.some((record) => record.token_gains),
  );
}

function grid(...children) {
  const present = children.filter(Boolean);
  return present.length ? element("div", { class: "grid" }, present) : null;
}

/** A run's own part, below its name where there are several. */
function ofRun(run, isNamed, content) {
  if (!content) return null;
  return isNamed ? element("details", { class: "run" }, element("summary", {}, run.label), content) : content;
}

function dataOf({ funnel: stages, repair, verdicts, empty_critiques: numEmpty, judged, leaks, num_audited, lengths }) {
  const total = Object.values(verdicts).reduce((sum, number) => sum + number, 0);
  const isJudged = Object.keys(judged).length > 0;
  return grid(
    funnel(stages),
    lengthsFigure(lengths),
    repairMatrix(repair),
    isJudged ? verdictMatrix(judged, numEmpty) : distribution("Verdicts", verdicts, total),
    distribution("Leaks", leaks, num_audited, `in ${count(num_audited)} records with a refinement`),
  );
}

function diagnosed(found) {
  const { advisories } = found;
  return element("div", {}, advisories.length ? advisoryList(advisories) : null, grid(...diagnoses(found)));
}

function costOf(run) {
  return grid(
    ledger(run.costs),
    timeBar("Where the time went", run.seconds),
    timeBar("Where the steps' time went", run.step_seconds, "on the first rank"),
  );
}

/** How many records there are, and which of them the page holds; nothing where there are none. */
function recordNotes(sources) {
  const total = sources.reduce((sum, { data }) => sum + data.num_records, 0);
  const held = sources.reduce((sum, { data }) => sum + data.records.length, 0);
  if (!total) return [];
  const sample =
    `The page holds ${count(held)} of ${count(total)} records: some of every outcome and of every kind of failure, ` +
    "the rest drawn by their ids. The counts above are of all records.";
  return [element("p", { class: "quiet" }, held < total ? sample : `All ${count(total)} records are on the page.`)];
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

/** Ask for what is new, and say since when nothing could be had. */
async function follow(address, payload) {
  let stamp = payload.stamp;
  for (;;) {
    await new Promise((resume) => setTimeout(resume, POLL_MS));
    try {
      const answer = await fetch(`${address}?since=${encodeURIComponent(stamp)}`, { cache: "no-store" });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      if (answer.status !== 204) {
        const newer = await answer.json();
        stamp = newer.stamp;
        show(newer, true);
      }
      state.textContent = `Live, ${new Date().toLocaleTimeString("en-GB")}`;
    } catch (error) {
      state.textContent = `Not reached: ${error.message}. Asking again.`;
    }
  }
}

async function start() {
  const holder = document.getElementById("payload");
  const address = holder.dataset.live;
  const payload = await unpacked(holder.textContent);
  holder.remove();
  layOut();
  show(payload, Boolean(address));
  listenToKeys();
  const addressed = () => followAddress(Object.values(browsers));
  addEventListener("hashchange", addressed);
  addressed();
  document.documentElement.dataset.ready = "true";
  if (address) await follow(address, payload);
}

start().catch((error) =>
  document
    .getElementById("page")
    .replaceChildren(
      element("main", { id: "content" }, element("h1", {}, "The page could not be unpacked"), element("p", {}, error.message)),
    ),
);
