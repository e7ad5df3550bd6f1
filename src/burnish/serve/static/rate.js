// Rate: the list of sessions, a new one, and what a session's judgements say together. Judging itself is in judge.js.

import { ask } from "./api.js";
import { field, fill, h, icon, toast } from "./dom.js";
import { judge, raterField, raterName } from "./judge.js";
import { models, modelSelect, noModel } from "./models.js";
import { ago, figure, percent, plural } from "./words.js";

const OTHER_SAMPLE = "";

export async function rate(root, query, rest) {
  const [id, page] = rest;
  if (id === "new") return create(root, query);
  if (id && page === "results") return results(root, id);
  if (id) return judge(root, id);
  return overview(root);
}

async function overview(root) {
  const { ratings } = await ask(`/page/ratings?rater=${encodeURIComponent(raterName())}`);
  const create = h("a", { class: "button main", href: "#/rate/new" }, icon("new"), "New session");
  fill(root, h("div", { class: "view" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Rate"), h("p", {}, "Judge two answers without knowing which model gave which. Every judgement is saved the moment you give it, and can be trained on.")), ratings.length > 0 && create),
    ratings.length ? h("ul", { class: "list" }, ratings.map(listed))
      : h("section", { class: "card empty" }, h("h2", {}, "No session yet"), h("p", {}, "A session is a list of prompts and two models that answer them. A few dozen judgements already show which one people prefer."), create)));
}

function listed(one) {
  const done = one.judged >= one.total;
  return h("li", { class: "card item" },
    h("div", { class: "grow stack tight" }, h("h2", { class: "anywhere" }, h("a", { href: `#/rate/${one.id}` }, one.title)),
      h("p", { class: "small soft" }, `${plural(one.total, "prompt")} · ${one.raters ? plural(one.raters, "rater") : "nobody has judged yet"} · ${ago(one.time)}`),
      h("progress", { class: "meter", max: one.total, value: one.judged, "aria-label": `You judged ${one.judged} of ${one.total}` })),
    h("div", { class: "row" }, h("span", { class: "small soft figures" }, `${one.judged} of ${one.total} by you`),
      h("a", { class: "button", href: `#/rate/${one.id}/results` }, "Results"),
      !done && h("a", { class: "button main", href: `#/rate/${one.id}` }, one.judged ? "Go on" : "Judge")));
}

// ------------------------------------------------------------------------------------------------------------------- a new session

async function create(root, query) {
  const { models: all } = await models(true);
  const list = all.filter(one => one.kind === "writes");
  if (!list.length) return fill(root, h("div", { class: "view narrow" }, noModel()));
  const { runs } = await ask("/page/runs");
  const tuned = list.find(one => one.name === query.get("model")) ?? list.find(one => one.base) ?? list[0];
  const first = modelSelect(list, tuned.name);
  const second = modelSelect(list, list.some(one => one.name === tuned.base) ? tuned.base : OTHER_SAMPLE, undefined, { empty: "the same model, a second sample" });
  const prompts = h("textarea", { rows: 8, required: true, placeholder: "One prompt per line", spellcheck: "false" });
  const number = value => h("input", { type: "number", value, inputmode: "decimal" });
  const temperature = h("input", { type: "number", min: 0, max: 2, step: 0.1, placeholder: "0; of two samples 0.8" });
  const tokens = Object.assign(number(128), { min: 1, max: 4000 });
  const seed = Object.assign(number(0), { min: 0 });
  const title = h("input", { type: "text", maxlength: 120, placeholder: "What is judged, in a few words" });
  const finished = runs.filter(run => run.state === "finished");
  const from = h("select", { "aria-label": "Take prompts from a run" }, h("option", { value: "" }, "Take held-out rows of a run …"), finished.map(run => h("option", { value: run.id }, run.name)));
  from.addEventListener("change", async () => {
    if (!from.value) return;
    try {
      const found = await ask(`/page/runs/${from.value}/prompts`);
      prompts.value = found.prompts.map(text => text.replaceAll("\n", "\\n")).join("\n");
      toast(`${plural(found.prompts.length, "held-out prompt")} taken.`);
    } catch (error) { toast(error.message, "bad"); }
    from.value = "";
  });
  const problem = h("p", { class: "note bad", role: "alert", hidden: true });
  const submit = async event => {
    event.preventDefault();
    const lines = prompts.value.split("\n").map(line => line.trim().replaceAll("\\n", "\n")).filter(Boolean);
    const settings = { max_tokens: Number(tokens.value), seed: Number(seed.value), ...(temperature.value === "" ? {} : { temperature: Number(temperature.value) }) };
    try {
      const made = await ask("/page/ratings", { body: { title: title.value, first: first.value, second: second.value || null, prompts: lines, ...settings } });
      location.hash = `#/rate/${made.id}`;
    } catch (error) {
      problem.hidden = false;
      problem.textContent = error.message;
    }
  };
  fill(root, h("div", { class: "view narrow" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "New rating session"), h("p", {}, "Two answers to each prompt are made while you read. Which side is which is a coin that follows from prompt and rater."))),
    h("form", { class: "card stack", on: { submit } },
      field("Title", title),
      h("div", { class: "pair" }, field("One answer by", first), field("The other by", second)),
      h("div", {}, field("Prompts", prompts, "One per line; \\n stands for a line break"), finished.length > 0 && h("div", { class: "from" }, from)),
      raterField(),
      h("details", {}, h("summary", {}, "Sampling"), h("div", { class: "inside trio" }, field("Temperature", temperature), field("Longest answer", tokens), field("Seed", seed))),
      problem,
      h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Start"), h("a", { class: "button", href: "#/rate" }, "Cancel")))));
}

// ------------------------------------------------------------------------------------------------------------------------- results

async function results(root, id) {
  const found = await ask(`/page/ratings/${id}/results`);
  const { summary } = found;
  fill(root, h("div", { class: "view" },
    h("div", { class: "head" },
      h("div", {}, h("h1", {}, found.title), h("p", {}, `${plural(summary.judgements, "judgement")} on ${plural(summary.prompts, "prompt")} by ${plural(Object.keys(summary.raters).length, "rater")}. Intervals: 95 %, a bootstrap over prompts.`)),
      h("div", { class: "row" }, h("a", { class: "button", href: `#/rate/${id}` }, "Judge"), h("a", { class: "button", href: `/page/ratings/${id}/feedback.jsonl`, download: "feedback.jsonl" }, icon("file"), "Download"))),
    summary.judgements === 0 ? h("section", { class: "card empty" }, h("h2", {}, "Nobody has judged yet")) : [
      summary.comparisons.map(comparison),
      h("div", { class: "grid" }, agreement(summary), sides(summary), counts(summary)),
      next(id, found),
    ]));
}

const share = one => one.mean === null ? "–" : percent(one.mean);
const range = one => one.low === null ? "" : `${percent(one.low)} to ${percent(one.high)}, of ${one.n}`;

function comparison(one) {
  const [first, second] = one.models;
  const win = one.win_rate;
  const proven = win.low !== null && (win.low > 0.5 || win.high < 0.5);
  const said = !proven ? "No preference is proven yet: the interval holds 50 %." : win.mean > 0.5 ? `People prefer ${first}.` : `People prefer ${second}.`;
  const total = one.better + one.worse + one.ties + one.both_bad;
  const part = (name, number, kind) => number > 0 && h("div", { class: "vote" }, h("span", { class: "anywhere" }, name), h("progress", { class: `meter ${kind}`, max: total, value: number, "aria-label": name }), h("span", { class: "figures" }, number));
  return h("section", { class: "card stack" },
    h("h2", { class: "anywhere" }, `${first} over ${second}`),
    h("p", { class: `note ${proven ? win.mean > 0.5 ? "good" : "bad" : "open"}` }, said),
    h("dl", { class: "facts" }, h("div", {}, h("dt", {}, "Win rate, ties as half"), h("dd", {}, share(win), h("small", { class: "soft" }, range(win))))),
    h("div", { class: "votes" }, part(first, one.better, ""), part(second, one.worse, ""), part("a tie", one.ties, ""), part("both bad", one.both_bad, "")));
}

function agreement(summary) {
  const found = summary.agreement;
  return h("section", { class: "card stack tight" }, h("h2", {}, "Do raters agree?"),
    found === null ? h("p", { class: "soft" }, "No prompt was judged by two raters yet. Let somebody else judge the same session under another name.")
      : [h("dl", { class: "facts" }, h("div", {}, h("dt", {}, "Same judgement"), h("dd", {}, share(found.share), h("small", { class: "soft" }, range(found.share)))),
        h("div", {}, h("dt", {}, "Krippendorff’s alpha"), h("dd", {}, found.alpha.mean === null ? "–" : figure(found.alpha.mean), h("small", { class: "soft" }, found.alpha.low === null ? found.alpha.note ?? "" : `${figure(found.alpha.low)} to ${figure(found.alpha.high)}`)))),
      h("p", { class: "hint" }, `${plural(found.prompts, "prompt")} judged by several. 1: all agree; 0: as by chance.`)]);
}

function sides(summary) {
  const left = summary.left;
  return h("section", { class: "card stack tight" }, h("h2", {}, "Left and right"),
    left === null ? h("p", { class: "soft" }, "No answer was preferred yet.")
      : [h("dl", { class: "facts" }, h("div", {}, h("dt", {}, "The left one was better"), h("dd", {}, share(left), h("small", { class: "soft" }, range(left))))),
        h("p", { class: "hint" }, left.low !== null && (left.low > 0.5 || left.high < 0.5) ? "Raters lean to one side." : "50 % is expected of the sides alone.")]);
}

function counts(summary) {
  return h("section", { class: "card stack tight" }, h("h2", {}, "Who judged"),
    h("ul", { class: "plain" }, Object.entries(summary.raters).map(([name, number]) => h("li", { class: "row apart" }, h("span", { class: "anywhere" }, name), h("span", { class: "figures soft" }, number)))),
    h("p", { class: "hint" }, `${summary.edited} edited, ${summary.skipped} skipped, ${summary.replaced} given anew`));
}

function next(id, found) {
  const start = async objective => {
    try {
      const made = await ask("/page/drafts", { body: { rating: id, objective } });
      location.hash = `#/new/${made.id}`;
    } catch (error) { toast(error.message, "bad"); }
  };
  return h("section", { class: "card stack" }, h("h2", {}, "Train on these judgements"),
    h("p", { class: "soft" }, `${plural(found.pairs, "pair")} of a better and a worse answer. Ties, and pairs that are both bad, teach nothing here.`),
    h("div", { class: "grid" },
      choice("Prefer what people preferred", "DPO moves the model itself towards the better answers.", "Train with DPO", () => start("dpo"), found.pairs),
      choice("Learn to judge like them", "A reward model scores answers; it can rank, filter, and be trained against.", "Train a reward model", () => start("reward"), found.pairs)));
}

function choice(title, text, button, act, pairs) {
  return h("div", { class: "stack tight" }, h("h3", {}, title), h("p", { class: "small soft" }, text), h("div", {}, h("button", { type: "button", class: "main", disabled: pairs === 0, on: { click: act } }, button)));
}
