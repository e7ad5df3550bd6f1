// Compare: one prompt, one seed, up to three models side by side: base, tuned, tuned with passages of the server's documents.

import { ask, complete } from "./api.js";
import { copy, field, fill, h, icon, say } from "./dom.js";
import { read, reading } from "./labels.js";
import { models, modelSelect, noModel } from "./models.js";
import { asked, settingFields, settings } from "./sampling.js";
import { draft, keepDraft, recall, remember } from "./store.js";
import { count, latency } from "./words.js";

export async function compare(root, query) {
  const { models: list, documents } = await models(true);
  if (!list.length) return fill(root, h("div", { class: "view narrow" }, noModel()));
  const state = { list, documents, chosen: settings("compare"), panes: arranged(list, documents, query.get("model")), busy: null };
  fill(root, frame(state));
  state.input.focus({ preventScroll: true });
  return () => state.busy?.abort();
}

/** Return who stands side by side: as last time, or a tuned model beside its base, and once more with passages. */
function arranged(list, documents, wanted) {
  const last = recall("compare.panes", null);
  const there = name => list.some(one => one.name === name);
  if (wanted === null && last?.length && last.every(one => there(one.model))) return last.map(one => ({ ...one, looks: one.looks && documents }));
  const tuned = list.find(one => one.name === wanted) ?? list.find(one => one.base) ?? list[0];
  const base = there(tuned.base) ? tuned.base : list.find(one => one.name !== tuned.name)?.name;
  return [base && { model: base, looks: false }, { model: tuned.name, looks: false }, documents && tuned.kind !== "reads" && { model: tuned.name, looks: true }].filter(Boolean);
}

function frame(state) {
  state.input = h("textarea", { rows: 3, placeholder: "The same words for every model", value: draft("compare"), on: { input: () => keepDraft("compare", state.input.value), keydown: event => keys(event, state) } });
  state.question = h("input", { type: "text", value: draft("chat.question"), on: { input: () => keepDraft("chat.question", state.question.value) } });
  state.asking = field("Question", state.question, "For a model that finds the answer in the text below");
  state.note = h("span", { class: "soft small settled" });
  note(state);
  state.go = h("button", { type: "submit", class: "main" });
  state.grid = h("div", { class: "panes" });
  const form = h("form", { class: "card stack", on: { submit: event => { event.preventDefault(); state.busy ? state.busy.abort() : run(state); } } },
    state.asking, field("Prompt", state.input),
    h("div", { class: "row apart" }, h("span", { class: "small soft" }, h("kbd", {}, "Ctrl"), " + ", h("kbd", {}, "Enter"), " asks, ", h("kbd", {}, "Esc"), " stops"), state.go),
    h("details", { on: { toggle: () => note(state) } }, h("summary", {}, "Settings, the same for all", state.note), h("div", { class: "inside" }, settingFields("compare", state.chosen))));
  draw(state);
  button(state);
  return h("div", { class: "view wide" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Compare"), h("p", {}, "The same prompt, settings and seed for each model, with what each answer cost in time and tokens."))),
    form, state.grid);
}

/** Say beside the closed settings what they are. */
function note(state) {
  const { temperature, seed, max_tokens } = state.chosen;
  state.note.textContent = `temperature ${temperature}, seed ${seed}, at most ${max_tokens} tokens`;
}

function keys(event, state) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (!state.busy) run(state); }
  if (event.key === "Escape") state.busy?.abort();
}

function button(state) {
  fill(state.go, icon(state.busy ? "stop" : "compare"), state.busy ? "Stop" : "Ask all");
}

function keep(state) {
  remember("compare.panes", state.panes.map(({ model, looks }) => ({ model, looks })));
}

function draw(state) {
  state.asking.hidden = !state.panes.some(pane => state.list.find(one => one.name === pane.model).asks);
  fill(state.grid, state.panes.map((pane, place) => drawn(state, pane, place)),
    state.panes.length < 3 && h("button", { type: "button", class: "add", on: { click: () => { state.panes.push({ model: state.panes.at(-1).model, looks: state.documents }); keep(state); draw(state); } } }, icon("new"), "Add a model"));
}

function drawn(state, pane, place) {
  const chooser = modelSelect(state.list, pane.model, name => { pane.model = name; clear(pane); keep(state); draw(state); });
  chooser.setAttribute("aria-label", `Model ${place + 1}`);
  const looks = state.documents && h("label", { class: "check small" }, h("input", { type: "checkbox", checked: pane.looks, on: { change: event => { pane.looks = event.target.checked; clear(pane); keep(state); draw(state); } } }), "with passages of the documents");
  const remove = state.panes.length > 1 && h("button", { type: "button", class: "bare", "aria-label": `Take model ${place + 1} away`, on: { click: () => { state.panes.splice(place, 1); keep(state); draw(state); } } }, "✕");
  pane.body = h("div", { class: "said" });
  pane.foot = h("dl", { class: "cost" });
  result(state, pane);
  return h("section", { class: "card pane", "aria-label": `Answer ${place + 1}` }, h("div", { class: "row" }, h("div", { class: "grow" }, chooser), remove), looks, pane.body, pane.foot);
}

function clear(pane) {
  Object.assign(pane, { result: null, error: null, passages: null, found: null });
}

/** Put what is known of an answer into its pane. */
function result(state, pane) {
  const { result: given, error, found, passages, waiting } = pane;
  pane.prose = h("div", { class: "prose" }, given?.text ?? "");
  fill(pane.body, error ? h("p", { class: "note bad", role: "alert" }, error)
    : found ? reading(found)
    : given ? [pane.prose, !given.text && h("p", { class: "soft" }, "(no answer)")]
    : waiting ? [pane.prose, h("span", { class: "row small soft" }, h("span", { class: "spin" }), "answering")]
    : h("p", { class: "soft" }, "The answer appears here."),
  passages && sources(passages));
  pane.body.setAttribute("aria-busy", String(Boolean(waiting)));
  if (!given) return fill(pane.foot);
  const rate = given.tokens && given.total ? given.tokens / (given.total / 1000) : null;
  return fill(pane.foot,
    cost("First token", latency(given.first)), cost("In all", latency(given.total) + (given.stopped ? ", stopped" : "")),
    cost("Tokens", given.tokens === null ? "–" : `${count(given.prompt)} in, ${count(given.tokens)} out`), cost("Speed", rate === null ? "–" : `${rate.toFixed(1)} tokens/s`),
    given.text && h("div", {}, h("button", { type: "button", class: "bare", on: { click: () => copy(given.text) } }, icon("copy"), "Copy")));
}

function cost(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", { class: "figures" }, value));
}

function sources(passages) {
  return h("details", { class: "small" }, h("summary", {}, passages.length ? `From ${passages.length === 1 ? "1 passage" : `${passages.length} passages`}` : "Nothing was found in the documents"),
    passages.map(one => h("blockquote", {}, h("p", { class: "soft mono" }, one.source), h("p", { class: "prose" }, one.text))));
}

async function run(state) {
  const text = state.input.value.trim();
  if (!text) return state.input.focus();
  const control = state.busy = new AbortController();
  button(state);
  const panes = [...state.panes];
  for (const pane of panes) { clear(pane); pane.waiting = true; result(state, pane); }
  await Promise.all(panes.map(pane => answer(state, pane, text, control)));
  if (state.busy === control) state.busy = null;
  button(state);
  say(control.signal.aborted ? "Stopped." : `${panes.length} answers are there.`);
}

async function answer(state, pane, text, control) {
  const begun = performance.now();
  try {
    const model = state.list.find(one => one.name === pane.model);
    if (model.kind === "reads") {
      const found = await read(model, text, state.question.value.trim(), control.signal);
      Object.assign(pane, { found, result: { text: "", first: null, total: performance.now() - begun, prompt: null, tokens: null } });
    } else {
      if (pane.looks) pane.passages = (await ask("/page/passages", { body: { question: text }, signal: control.signal })).passages;
      const question = [...(pane.passages ?? []).map(one => one.text), text].join("\n\n");
      const messages = [...(state.chosen.system.trim() ? [{ role: "system", content: state.chosen.system }] : []), { role: "user", content: question }];
      const heard = said => { pane.prose.textContent = said; };
      pane.result = await complete(model, { messages, ...asked(state.chosen) }, { signal: control.signal, heard });
    }
  } catch (error) {
    pane.error = error.name === "AbortError" ? "Stopped." : error.message;
  }
  pane.waiting = false;
  result(state, pane);
}
