// Judging: a prompt and two answers without names, one key each, as in the terminal (burnish rate). Each judgement is on the server's disk
// before the next prompt is shown.

import { ask } from "./api.js";
import { field, fill, h, icon, say, toast } from "./dom.js";
import { recall, remember } from "./store.js";

const KEYS = { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", t: "tie", "=": "tie", x: "both_bad", e: "edit", s: "skip", u: "back" };
const SAID = { left: "The left answer is better", right: "The right answer is better", tie: "A tie", both_bad: "Both are bad", skip: "Skipped" };

/** Return the name under which this browser judges. */
export function raterName() {
  return recall("rater", "") || "me";
}

/** Return a field for it. */
export function raterField(change = () => {}) {
  return field("Your name as a rater", h("input", { type: "text", maxlength: 60, value: raterName(), autocomplete: "nickname", on: { change: event => { remember("rater", event.target.value.trim()); change(); } } }), "Others see it beside their own in the results");
}

export async function judge(root, id) {
  const sitting = { id, item: null, history: [], timer: null, editing: false, busy: false, gone: false, began: 0 };
  sitting.body = h("div", { class: "view" });
  fill(root, sitting.body);
  const key = event => pressed(event, sitting);
  document.addEventListener("keydown", key);
  await next(sitting);
  return () => {
    sitting.gone = true;
    clearTimeout(sitting.timer);
    document.removeEventListener("keydown", key);
  };
}

const path = sitting => `/page/ratings/${sitting.id}`;
const who = () => `rater=${encodeURIComponent(raterName())}`;

function pressed(event, sitting) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action || sitting.item === null || sitting.editing) return;
  event.preventDefault();
  act(sitting, action);
}

/** Show the next prompt, or say that it is still being answered, or that all are judged. */
async function next(sitting, item = null) {
  clearTimeout(sitting.timer);
  let found;
  try {
    found = await ask(`${path(sitting)}/next?${who()}${item ? `&item=${item}` : ""}`);
  } catch (error) {
    if (sitting.gone) return;
    fill(sitting.body, h("p", { class: "note bad", role: "alert" }, error.message), h("div", { class: "row" }, h("button", { type: "button", on: { click: () => next(sitting, item) } }, "Try again"), h("a", { class: "button", href: "#/rate" }, "All sessions")));
    return;
  }
  if (sitting.gone) return;
  sitting.editing = false;
  if (found.state === "item") return show(sitting, found);
  sitting.item = null;
  if (found.state === "making") {
    fill(sitting.body, head(found), h("section", { class: "card empty", "aria-busy": "true" }, h("span", { class: "spin" }), h("p", {}, "The next answers are being made.")));
    sitting.timer = setTimeout(() => next(sitting, item), 700);
    return;
  }
  say("All prompts are judged.");
  fill(sitting.body, head(found), h("section", { class: "card empty" }, h("h2", {}, "All prompts are judged"),
    h("p", {}, found.same ? `${found.same} were not asked, since both answers are the same.` : "Thank you."),
    h("div", { class: "row" }, h("a", { class: "button main", href: `#/rate/${sitting.id}/results` }, "See what they say"), sitting.history.length > 0 && h("button", { type: "button", on: { click: () => act(sitting, "back") } }, "Back to the last one"))));
}

function head(found) {
  return h("div", { class: "stack tight" },
    h("div", { class: "row apart" }, h("h1", {}, found.title), h("span", { class: "small soft figures" }, `${found.judged} of ${found.total} judged by ${raterName()}`)),
    h("progress", { class: "meter", max: found.total, value: found.judged, "aria-label": "Judged" }));
}

function show(sitting, found) {
  sitting.item = found;
  sitting.began = performance.now();
  const earlier = found.earlier && h("p", { class: "note" }, `You said: ${found.earlier.edit ? "a better text of your own" : SAID[found.earlier.choice] ?? found.earlier.choice}. A new judgement replaces it; skipping leaves it.`);
  fill(sitting.body, head(found), earlier,
    h("section", { class: "card", "aria-label": "Prompt" }, h("h2", { class: "label soft" }, "Prompt"), prompt(found.messages)),
    h("div", { class: "sides" }, side(sitting, "left", "1", found.left), side(sitting, "right", "2", found.right)),
    h("div", { class: "verdicts", role: "group", "aria-label": "Judgement" },
      verdict(sitting, "left", "Left is better", "1"), verdict(sitting, "tie", "A tie", "T"), verdict(sitting, "both_bad", "Both bad", "X"), verdict(sitting, "right", "Right is better", "2")),
    h("div", { class: "row apart" },
      h("div", { class: "row" }, verdict(sitting, "edit", "Write a better one", "E", "edit"), verdict(sitting, "skip", "Skip", "S"), verdict(sitting, "back", "Back", "U")),
      h("a", { href: `#/rate/${sitting.id}/results` }, "Leave, see the results")));
  sitting.body.tabIndex = -1;
  sitting.body.focus({ preventScroll: true });
  say(`Prompt ${found.judged + 1} of ${found.total}`);
}

function prompt(messages) {
  return messages.length === 1 ? h("p", { class: "prose" }, messages[0].content)
    : h("div", { class: "stack tight" }, messages.map(one => h("div", {}, h("span", { class: "small soft" }, one.role), h("p", { class: "prose" }, one.content))));
}

function side(sitting, name, key, text) {
  return h("section", { class: "card side-answer", "aria-label": `The ${name} answer`, id: `answer-${name}` },
    h("h2", { class: "label soft row" }, h("kbd", {}, key), name === "left" ? "Left" : "Right"), h("div", { class: "prose" }, text.trim() ? text : h("span", { class: "soft" }, "(no text)")));
}

function verdict(sitting, action, text, key, drawing = null) {
  return h("button", { type: "button", "data-act": action, "aria-keyshortcuts": key, on: { click: () => act(sitting, action) } }, drawing && icon(drawing), text, h("kbd", { "aria-hidden": "true" }, key));
}

async function act(sitting, action) {
  if (sitting.busy) return;
  if (action === "back") {
    const item = sitting.history.pop();
    return item ? next(sitting, item) : toast("This is the first one.");
  }
  if (sitting.item && action === "edit") return edit(sitting);
  if (sitting.item) await save(sitting, { choice: action });
}

async function save(sitting, said) {
  sitting.busy = true;
  const { item } = sitting.item;
  try {
    const seconds = (performance.now() - sitting.began) / 1000;
    await ask(`${path(sitting)}/judgements`, { body: { rater: raterName(), item, seconds, ...said } });
    sitting.history.push(item);
    sitting.busy = false;
    await next(sitting);
  } catch (error) {
    toast(`Not saved: ${error.message}`, "bad");
  } finally {
    sitting.busy = false;
  }
}

/** Let the rater write a better answer, starting from the one that comes nearer. */
function edit(sitting) {
  sitting.editing = true;
  const { left, right } = sitting.item;
  const text = h("textarea", { rows: 7, value: left });
  const nearer = name => h("label", { class: "check" }, h("input", { type: "radio", name: "nearer", value: name, checked: name === "left", on: { change: () => { text.value = name === "left" ? left : right; text.focus(); } } }), name === "left" ? "Left" : "Right");
  const choices = h("fieldset", {}, h("legend", {}, "Which one comes nearer?"), h("div", { class: "row" }, nearer("left"), nearer("right")));
  const close = () => { sitting.editing = false; dialog.close(); dialog.remove(); };
  const submit = async event => {
    event.preventDefault();
    const choice = choices.querySelector("input:checked").value;
    const better = text.value.trim();
    if (!better || better === (choice === "left" ? left : right).trim()) return toast("Nothing was changed, so nothing is judged yet.");
    close();
    await save(sitting, { choice, edit: better });
  };
  const dialog = h("dialog", { "aria-labelledby": "better", on: { cancel: close } },
    h("form", { class: "stack", on: { submit } }, h("h2", { id: "better" }, "Write a better answer"), choices, field("Better answer", text),
      h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Save"), h("button", { type: "button", on: { click: close } }, "Cancel"))));
  document.body.append(dialog);
  dialog.showModal();
  text.focus();
}
