// One run: how it goes while it goes, and what came of it: scores, examples before and after, data report, report, decision, run file.

import { ask } from "./api.js";
import { chart } from "./chart.js";
import { dataReport } from "./datareport.js";
import { fill, h, icon, say, toast } from "./dom.js";
import { badge } from "./runs.js";
import { ago, count, duration, figure, interval, signed, words } from "./words.js";

const EVERY = 1500;
const SECTIONS = { progress: "Progress", scores: "Scores", examples: "Examples", data: "Data", report: "Report", decision: "Decision", file: "Run file" };

export async function run(root, id, section) {
  const seen = { id, section, records: [], run: null, timer: null, gone: false, shape: null };
  seen.head = h("div", { class: "stack" });
  seen.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "Parts of this run" });
  seen.body = h("div", { class: "stack", role: "tabpanel", id: "part", tabindex: "-1" });
  fill(root, h("div", { class: "view" }, seen.head, seen.tabs, seen.body));
  await look(seen);
  return () => { seen.gone = true; clearTimeout(seen.timer); };
}

const isLive = run => run.state === "running" || run.state === "starting";

/** Ask how the run stands, and draw what changed. */
async function look(seen) {
  const after = seen.records.at(-1)?.step ?? -1;
  const [found, told] = await Promise.all([ask(`/page/runs/${seen.id}`), ask(`/page/runs/${seen.id}/metrics?after=${after}`)]);
  if (seen.gone) return;
  // A resumed run takes records back: then all are read again.
  if (told.last < after) seen.records = (await ask(`/page/runs/${seen.id}/metrics?after=-1`)).records;
  else {
    const known = new Set(seen.records.map(key));
    seen.records.push(...told.records.filter(one => !known.has(key(one))));
  }
  if (seen.gone) return;
  const before = seen.run?.state;
  seen.run = found;
  if (before && before !== found.state) say(`The run is ${found.state}`);
  drawHead(seen);
  const shape = JSON.stringify([found.state, found.parts, found.report?.run?.finished]);
  if (shape !== seen.shape) { seen.shape = shape; drawTabs(seen); drawBody(seen); }
  else if (seen.section === "progress") drawBody(seen);
  if (isLive(found) || found.busy) seen.timer = setTimeout(() => look(seen).catch(() => { seen.timer = setTimeout(() => look(seen), EVERY); }), EVERY);
}

const key = record => `${record.step}${"dev" in record ? "d" : ""}`;

function drawHead(seen) {
  const { run } = seen;
  const facts = seen.records.filter(one => "loss" in one).at(-1);
  const left = isLive(run) && facts && run.steps && facts.tokens_per_second && facts.step ? (run.steps - facts.step) * facts.tokens / facts.step / facts.tokens_per_second : null;
  fill(seen.head,
    h("p", { class: "small" }, h("a", { href: "#/runs" }, "← All runs")),
    h("div", { class: "head" }, h("div", {}, h("div", { class: "row" }, h("h1", {}, run.name), badge(run.state)),
      h("p", { class: "small anywhere" }, [run.model && `from ${run.model}`, run.technique, run.objective, run.time && ago(run.time)].filter(Boolean).join(" · "))), acts(seen)),
    run.job && h("p", { class: "note" }, `Carried out for the fine-tuning job ${run.job}, through which it is paused, resumed or cancelled.`),
    run.message && h("p", { class: `note ${run.state === "failed" || run.state === "killed" ? "bad" : "open"}` }, run.message),
    isLive(run) && h("div", { class: "card flat stack tight" },
      h("progress", { class: "meter", ...(run.steps ? { max: run.steps, value: run.step } : {}), "aria-label": "Progress" }),
      h("div", { class: "row apart small soft figures" }, h("span", {}, run.steps ? `step ${count(run.step)} of ${count(run.steps)}` : "getting ready: reading data, loading the model"),
        h("span", {}, [facts && `${count(Math.round(facts.tokens_per_second))} tokens/s`, left !== null && left > 0 && `about ${duration(left)} of training left`].filter(Boolean).join(" · ")))));
}

function acts(seen) {
  const { run } = seen;
  const act = (name, done) => async () => {
    try {
      await ask(`/page/runs/${seen.id}/${name}`, { method: "POST" });
      toast(done);
      clearTimeout(seen.timer);
      await look(seen);
    } catch (error) { toast(error.message, "bad"); }
  };
  const to = where => `#/${where}?model=${encodeURIComponent(run.served)}`;
  return h("div", { class: "row" },
    run.can_stop && h("button", { type: "button", on: { click: act("stop", "Stopping: the step under way is saved first.") } }, icon("stop"), "Stop"),
    run.can_resume && h("button", { type: "button", class: "main", on: { click: act("resume", "Going on.") } }, icon("again"), "Continue"),
    run.served && [h("a", { class: "button main", href: to("chat") }, "Chat"), h("a", { class: "button", href: to("compare") }, "Compare"), !run.reads && h("a", { class: "button", href: to("rate/new") }, "Rate")],
    run.can_serve_base && h("button", { type: "button", on: { click: act("base", "The base answers too.") } }, "Load its base"),
    !run.served && run.can_serve && h("button", { type: "button", class: "main", on: { click: act("serve", "The model answers now.") } }, "Load to chat"));
}

function drawTabs(seen) {
  const there = Object.keys(SECTIONS).filter(name => seen.run.parts.includes(name));
  if (!there.includes(seen.section)) seen.section = isLive(seen.run) || !there.includes("scores") ? "progress" : "scores";
  const choose = name => {
    seen.section = name;
    history.replaceState(null, "", `#/runs/${seen.id}/${name}`);
    drawTabs(seen);
    drawBody(seen);
    seen.tabs.querySelector("[aria-selected=true]").focus();
  };
  fill(seen.tabs, there.map((name, place) => h("button", {
    type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "part", "aria-selected": String(name === seen.section), tabindex: name === seen.section ? "0" : "-1",
    on: { click: () => choose(name), keydown: event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) { event.preventDefault(); choose(there[(place + step + there.length) % there.length]); }
    } },
  }, SECTIONS[name])));
  seen.body.setAttribute("aria-labelledby", `tab-${seen.section}`);
}

function drawBody(seen) {
  const { run } = seen;
  const draw = {
    progress: () => progress(seen),
    scores: () => scores(run),
    examples: () => examples(run.report),
    data: () => dataReport(run.data),
    report: () => framed(seen, "report", "The report of this run"),
    decision: () => framed(seen, "decision", "The decision: prompting, retrieval or tuning"),
    file: () => h("section", { class: "card" }, h("pre", { class: "text", tabindex: "0", "aria-label": "Run file" }, run.run_toml)),
  };
  fill(seen.body, draw[seen.section]());
}

function framed(seen, name, title) {
  return h("iframe", { class: "framed", title, src: `/page/runs/${seen.id}/${name}.html`, sandbox: "", referrerpolicy: "no-referrer" });
}

// ------------------------------------------------------------------------------------------------------------------------ the parts

function progress(seen) {
  const steps = seen.records.filter(one => "loss" in one), dev = seen.records.filter(one => one.dev);
  const names = [...new Set(dev.flatMap(one => Object.keys(one.dev).filter(name => typeof one.dev[name] === "number")))];
  const { log, state } = seen.run, axis = { until: isLive(seen.run) ? seen.run.steps : null };
  const one = (title, name, kind, points) => h("section", { class: "card" }, chart(title, [{ name, kind, points }], axis));
  return [
    seen.records.length === 0 ? h("section", { class: "card empty" }, h("p", {}, isLive(seen.run) ? "Loss and scores appear here as soon as the first step is made." : "This run measured nothing.")) : h("div", { class: "charts" },
      one("Loss", "loss", "tuned", steps.map(record => [record.step, record.loss])),
      names.map(name => one(`Dev ${words(name)}`, words(name), "dev", dev.filter(record => name in record.dev).map(record => [record.step, record.dev[name]]))),
      one("Learning rate", "learning rate", "base", steps.map(record => [record.step, record.learning_rate])),
      one("Gradient norm", "gradient norm", "baseline", steps.map(record => [record.step, record.gradient_norm]))),
    log && h("details", { class: "card", open: state === "failed" || seen.logOpen, on: { toggle: event => { seen.logOpen = event.target.open; } } }, h("summary", {}, "What the process said"), h("pre", { class: "text", tabindex: "0" }, log)),
  ];
}

function scores(run) {
  const { report } = run;
  const has = Object.values(report.scores ?? {});
  const baseline = has.some(one => one.baseline);
  return [
    report.verdict && h("p", { class: `note ${verdict(run)}` }, report.verdict),
    h("section", { class: "card" }, table("Score", report.scores ?? {}, baseline), h("p", { class: "hint" }, `${has[0] ? `${count(has[0].n)} held-out rows in ${count(has[0].groups)} groups; ` : ""}95 % intervals by a bootstrap over groups.`)),
    report.forgetting?.scores && h("section", { class: "card stack tight" }, h("h2", {}, "What was forgotten: general questions"), report.forgetting.verdict && h("p", { class: "soft" }, report.forgetting.verdict), table("Score", report.forgetting.scores, false)),
    report.notes?.length > 0 && h("section", { class: "card stack tight" }, h("h2", {}, "Notes"), h("ul", {}, report.notes.map(one => h("li", { class: "anywhere" }, one)))),
  ];
}

/** Whether a difference is proven, and in which direction. */
function outcome(one) {
  const { low, high } = one.difference ?? {};
  if (typeof low !== "number" || typeof high !== "number" || (low <= 0 && high >= 0)) return "unproven";
  return low > 0 === one.higher_is_better ? "better" : "worse";
}

/** The colour of the verdict: never good where something far cheaper does better. */
function verdict({ headline }) {
  return { better: headline?.beaten ? "open" : "good", worse: "bad" }[headline?.outcome] ?? "open";
}

function table(name, found, baseline) {
  const cell = one => one ? [figure(one.mean), h("small", { class: "soft" }, interval(one.low, one.high))] : "–";
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Scores" }, h("table", {},
    h("thead", {}, h("tr", {}, [name, "Base", "Tuned", "Difference", baseline && "Baseline"].filter(Boolean).map(text => h("th", { scope: "col" }, text)))),
    h("tbody", {}, Object.entries(found).map(([score, one]) => h("tr", {},
      h("th", { scope: "row" }, words(score), !one.higher_is_better && h("small", { class: "soft" }, " lower is better")),
      h("td", {}, cell(one.base)), h("td", {}, cell(one.tuned)),
      h("td", {}, one.difference ? [h("span", { class: outcome(one) }, `${signed(one.difference.mean)} ${outcome(one)}`), h("small", { class: "soft" }, interval(one.difference.low, one.difference.high, signed))] : "–"),
      baseline && h("td", {}, cell(one.baseline)))))));
}

function examples(report) {
  return report.examples.map(one => h("article", { class: "card stack tight" },
    h("div", { class: "row apart" }, h("h2", { class: "label soft" }, "Prompt"), h("span", { class: "small soft mono anywhere" }, one.origin)),
    h("p", { class: "prose" }, one.prompt),
    h("div", { class: "before" }, answer("Before", one.base, one.expected), answer("After", one.tuned, one.expected), one.expected !== undefined && one.expected !== null && answer("Expected", one.expected, null))));
}

function answer(name, text, expected) {
  const same = typeof text === "string" && typeof expected === "string" && text.trim().toLowerCase() === expected.trim().toLowerCase();
  return h("div", { class: same ? "right" : "" }, h("h3", { class: "soft small" }, name, same && " ✓ as expected"), h("p", { class: "prose" }, text === undefined || text === null || text === "" ? h("span", { class: "soft" }, "(nothing)") : String(text)));
}
