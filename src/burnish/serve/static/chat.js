// Chat: a conversation with one model. It is kept in this browser, half an answer too, so that a reload loses nothing.

import { complete } from "./api.js";
import { copy, fill, h, icon, say, toast } from "./dom.js";
import { inWords, read, reading } from "./labels.js";
import { models, modelSelect, noModel } from "./models.js";
import { asked, settingFields, settings } from "./sampling.js";
import { draft, keepDraft, recall, remember } from "./store.js";
import { count, latency } from "./words.js";

const GREETINGS = ["What can you do?", "Explain in two sentences what a bicycle is.", "Write a short, friendly greeting."];

/** Show the conversation. `query.model` names who is to answer. */
export async function chat(root, query) {
  const { models: list } = await models(true);
  if (!list.length) return fill(root, h("div", { class: "view narrow" }, noModel()));
  const talk = { ...recall("chat", { model: null, turns: [] }), busy: null };
  const wanted = [query.get("model"), talk.model, list.find(one => one.base)?.name, list[0].name];
  talk.model = wanted.find(name => list.some(one => one.name === name));
  const parts = frame(talk, list);
  fill(root, parts.view);
  show(talk, parts);
  parts.input.focus({ preventScroll: true });
  return () => stop(talk);
}

function frame(talk, list) {
  const parts = { chosen: settings("chat"), list };
  parts.log = h("div", { class: "talk", role: "log", "aria-label": "Conversation", "aria-live": "off" });
  parts.input = h("textarea", {
    id: "message", rows: 1, "aria-label": "Message", placeholder: "Write a message", value: draft("chat"), enterkeyhint: "send",
    on: { input: () => { keepDraft("chat", parts.input.value); grow(parts.input); }, keydown: event => keys(event, talk, parts) },
  });
  parts.question = h("input", { type: "text", "aria-label": "Question", placeholder: "Question", value: draft("chat.question"), on: { input: () => keepDraft("chat.question", parts.question.value) } });
  parts.send = h("button", { class: "round main", type: "submit" });
  parts.form = h("form", { class: "composer", on: { submit: event => { event.preventDefault(); talk.busy ? stop(talk) : send(talk, parts); } } }, h("div", { class: "grow stack tight" }, parts.question, parts.input), parts.send);
  parts.alone = h("input", { type: "checkbox", on: { change: () => { talk.alone = { ...talk.alone, [talk.model]: parts.alone.checked }; keep(talk); } } });
  const alone = h("label", { class: "check small" }, parts.alone, "Answer each message by itself");
  parts.aside = h("aside", { class: "card settings", id: "chat-settings", "aria-label": "Settings", hidden: true }, h("h2", {}, "Settings"), alone, settingFields("chat", parts.chosen));
  const toggle = h("button", { type: "button", "aria-expanded": "false", "aria-controls": "chat-settings" }, icon("sliders"), "Settings");
  toggle.addEventListener("click", () => {
    parts.aside.hidden = !parts.aside.hidden;
    toggle.setAttribute("aria-expanded", String(!parts.aside.hidden));
    if (!parts.aside.hidden) parts.aside.scrollIntoView({ block: "center" });
  });
  const model = modelSelect(list, talk.model, name => { talk.model = name; keep(talk); show(talk, parts); });
  model.setAttribute("aria-label", "Model");
  const anew = h("button", { type: "button", on: { click: () => { stop(talk); talk.turns = []; keep(talk); show(talk, parts); parts.input.focus(); } } }, icon("new"), "New chat");
  parts.view = h("div", { class: "chat" },
    h("div", { class: "bar" }, h("h1", { class: "unseen" }, "Chat"), h("div", { class: "grow who" }, model), toggle, anew),
    h("div", { class: "columns" }, h("div", { class: "column" }, parts.log, parts.form), parts.aside));
  return parts;
}

function keys(event, talk, parts) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!talk.busy) send(talk, parts);
  } else if (event.key === "Escape") stop(talk);
}

function grow(input) {
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight + 2, 220)}px`;
}

function keep(talk) {
  remember("chat", { model: talk.model, turns: talk.turns, alone: talk.alone });
}

/** Whether a model is asked without what was said before: one that was taught single rows, unless somebody chose otherwise. */
function isAlone(talk, parts) {
  return talk.alone?.[talk.model] ?? current(talk, parts).single;
}

const current = (talk, parts) => parts.list.find(one => one.name === talk.model);

/** Draw everything anew: after each change but not for each piece of an answer. */
function show(talk, parts) {
  fill(parts.log, talk.turns.length ? talk.turns.map((turn, place) => shown(talk, parts, turn, place)) : welcome(talk, parts));
  const busy = talk.busy !== null;
  fill(parts.send, icon(busy ? "stop" : "send"));
  parts.send.setAttribute("aria-label", busy ? "Stop" : "Send");
  const { kind, asks } = current(talk, parts);
  parts.question.hidden = !asks;
  parts.alone.checked = isAlone(talk, parts);
  parts.input.placeholder = asks ? "The text in which the answer stands" : { reads: "Write a text to be read", continues: "Begin a text" }[kind] ?? "Write a message";
  grow(parts.input);
}

function welcome(talk, parts) {
  const model = current(talk, parts);
  const tries = (model.examples?.length ? model.examples : model.kind === "writes" ? GREETINGS : []).slice(0, 3);
  return h("div", { class: "welcome" },
    h("h2", {}, { reads: "What shall be read?", continues: "Begin a text" }[model.kind] ?? "Say something"),
    h("p", { class: "soft" }, model.base ? `${model.name} was tuned from ${model.base}.` : `${model.name} answers.`, model.examples?.length ? " Rows it has not learned from:" : ""),
    h("div", { class: "tries" }, tries.map(text => h("button", { type: "button", on: { click: () => { parts.input.value = text; send(talk, parts); } } }, text))));
}

function shown(talk, parts, turn, place) {
  if (turn.role === "user") return asking(talk, parts, turn, place);
  const streaming = talk.busy !== null && place === talk.turns.length - 1;
  const body = turn.read ? reading(turn.read) : h("div", { class: "prose" }, turn.text || (streaming ? "" : "(no answer)"));
  if (streaming) parts.live = body;
  return h("article", { class: "turn answer", "aria-label": `Answer of ${turn.model}`, "aria-busy": String(streaming) }, body,
    turn.error && h("p", { class: "note bad", role: "alert" }, turn.error),
    h("div", { class: "under" }, streaming ? h("span", { class: "row small soft" }, h("span", { class: "spin" }), turn.model) : h("span", { class: "small soft figures" }, told(turn)),
      !streaming && h("span", { class: "acts" },
        h("button", { type: "button", class: "bare", on: { click: () => again(talk, parts, place) } }, icon("again"), "Retry"),
        turn.text && h("button", { type: "button", class: "bare", on: { click: () => copy(turn.text) } }, icon("copy"), "Copy"))));
}

function told(turn) {
  return [turn.model, turn.tokens !== undefined && turn.tokens !== null && `${count(turn.tokens)} tokens`, turn.first && `first after ${latency(turn.first)}`,
    turn.total && latency(turn.total), turn.stopped && "stopped", turn.finish === "length" && "cut at the longest answer"].filter(Boolean).join(" · ");
}

function asking(talk, parts, turn, place) {
  const box = h("article", { class: "turn question", "aria-label": "You" });
  const edit = () => {
    const input = h("textarea", { rows: Math.min(8, turn.text.split("\n").length + 1), "aria-label": "Edit your message", value: turn.text });
    const done = () => { if (input.value.trim()) { stop(talk); talk.turns.length = place; ask_(talk, parts, input.value.trim()); } };
    const leave = () => show(talk, parts);
    input.addEventListener("keydown", event => {
      if (event.key === "Escape") leave();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); done(); }
    });
    fill(box, h("div", { class: "stack tight editing" }, input, h("div", { class: "row" },
      h("button", { type: "button", class: "main", on: { click: done } }, "Ask again"), h("button", { type: "button", on: { click: leave } }, "Leave as it was"))));
    input.focus();
  };
  return fill(box, h("div", { class: "bubble prose" }, turn.text), h("span", { class: "acts" }, h("button", { type: "button", class: "bare", on: { click: edit } }, icon("edit"), "Edit")));
}

function send(talk, parts) {
  const text = parts.input.value.trim();
  if (!text || talk.busy) return;
  parts.input.value = "";
  keepDraft("chat", "");
  ask_(talk, parts, text);
}

function again(talk, parts, place) {
  stop(talk);
  const question = talk.turns[place - 1];
  const attempt = (talk.turns[place].attempt ?? 0) + 1;
  talk.turns.length = place - 1;
  ask_(talk, parts, question.text, attempt);
}

function stop(talk) {
  talk.busy?.abort();
}

/** Put a question, and let the answer arise; `attempt` moves the seed, so that asking again can give something else. */
async function ask_(talk, parts, text, attempt = 0) {
  const control = new AbortController();
  talk.busy?.abort();
  talk.turns.push({ role: "user", text });
  const messages = [...(parts.chosen.system.trim() ? [{ role: "system", content: parts.chosen.system }] : []),
    ...(isAlone(talk, parts) ? talk.turns.slice(-1) : talk.turns.filter(turn => turn.text)).map(turn => ({ role: turn.role, content: turn.text }))];
  const turn = { role: "assistant", text: "", model: talk.model, attempt };
  talk.turns.push(turn);
  talk.busy = control;
  keep(talk);
  show(talk, parts);
  parts.log.lastElementChild.scrollIntoView({ block: "end" });
  try {
    if (current(talk, parts).kind === "reads") await look(talk, parts, turn, text, control);
    else await write(talk, parts, turn, messages, control);
  } catch (error) {
    if (error.name !== "AbortError") turn.error = error.message;
  }
  if (talk.busy === control) talk.busy = null;
  if (!talk.turns.includes(turn)) return;
  keep(talk);
  show(talk, parts);
  say(turn.error ? `No answer: ${turn.error}` : turn.stopped ? "Stopped." : `Answer: ${turn.text.slice(0, 400)}`);
}

async function write(talk, parts, turn, messages, control) {
  const sampling = asked(parts.chosen);
  let saved = 0;
  const heard = text => {
    const follow = nearEnd();
    turn.text = text;
    parts.live.textContent = text;
    if (follow) scrollTo(0, document.documentElement.scrollHeight);
    if (performance.now() - saved > 400) { saved = performance.now(); keep(talk); }
  };
  const result = await complete(current(talk, parts), { messages, ...sampling, seed: sampling.seed + turn.attempt }, { signal: control.signal, heard });
  Object.assign(turn, { tokens: result.tokens, first: result.first, total: result.total, finish: result.finish, stopped: result.stopped });
}

async function look(talk, parts, turn, text, control) {
  const begun = performance.now();
  const found = await read(current(talk, parts), text, parts.question.value.trim(), control.signal);
  Object.assign(turn, { read: found, text: inWords(found), total: performance.now() - begun });
}

function nearEnd() {
  return innerHeight + scrollY > document.documentElement.scrollHeight - 140;
}
