// The frame: navigation, theme, keyboard help, and which view stands in the middle. The address behind # says which.

import { chat } from "./chat.js";
import { compare } from "./compare.js";
import { fill, h, icon, say } from "./dom.js";
import { newRun } from "./newrun.js";
import { rate } from "./rate.js";
import { run } from "./run.js";
import { runs } from "./runs.js";
import { recall, remember } from "./store.js";

const VIEWS = {
  chat: ["Chat", "chat", chat],
  compare: ["Compare", "compare", compare],
  rate: ["Rate", "rate", rate],
  runs: ["Runs", "runs", (root, query, rest) => (rest[0] ? run(root, rest[0], rest[1]) : runs(root))],
  new: ["New run", "new", newRun],
};
const HELP = [
  ["Everywhere", [["Alt 1 … Alt 5", "the five pages"], ["?", "this help"]]],
  ["Chat", [["Enter", "send"], ["Shift Enter", "a new line"], ["Esc", "stop the answer"]]],
  ["Compare", [["Ctrl Enter", "ask all"], ["Esc", "stop all"]]],
  ["Rate", [["1 or ←", "the left answer is better"], ["2 or →", "the right one"], ["T", "a tie"], ["X", "both are bad"], ["E", "write a better one"], ["S", "skip"], ["U", "back to the one before"]]],
];

const root = document.getElementById("main");
let leave = null;
let turn = 0;

async function open() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").filter(Boolean);
  if (location.hash === "#main") return;
  const view = VIEWS[name] ? name : "chat";
  const mine = ++turn;
  leave?.();
  leave = null;
  document.title = `${VIEWS[view][0]} · burnish`;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // Each visit draws into a place of its own, so that one which comes late cannot draw over its successor.
  const place = h("div", { class: "place" });
  fill(root, place);
  root.setAttribute("aria-busy", "true");
  try {
    const left = await VIEWS[view][2](place, new URLSearchParams(search ?? ""), rest);
    if (mine === turn) leave = typeof left === "function" ? left : null;
    else if (typeof left === "function") left();
  } catch (error) {
    if (mine === turn) failed(place, error);
  }
  if (mine !== turn) return;
  root.setAttribute("aria-busy", "false");
  scrollTo(0, 0);
  say(`${VIEWS[view][0]} is shown`);
}

function failed(place, error) {
  fill(place, h("div", { class: "view narrow" }, h("p", { class: "note bad", role: "alert" }, error.message), h("div", {}, h("button", { type: "button", on: { click: open } }, "Try again"))));
}

// ------------------------------------------------------------------------------------------------------------------ theme and help

const dark = matchMedia("(prefers-color-scheme: dark)");

function theme() {
  return recall("theme", null) ?? (dark.matches ? "dark" : "light");
}

function paint() {
  document.documentElement.dataset.theme = theme();
  const other = theme() === "dark" ? "light" : "dark";
  const button = document.getElementById("theme");
  if (button) {
    fill(button, icon(other === "dark" ? "moon" : "sun"));
    button.setAttribute("aria-label", `Switch to ${other} colours`);
    button.title = `Switch to ${other} colours`;
  }
}

function help() {
  const dialog = h("dialog", { "aria-labelledby": "help-title", on: { close: () => dialog.remove() } },
    h("div", { class: "stack" }, h("div", { class: "row apart" }, h("h2", { id: "help-title" }, "Keys"), h("button", { type: "button", class: "bare", "aria-label": "Close", on: { click: () => dialog.close() } }, "✕")),
      HELP.map(([name, keys]) => h("section", { class: "stack tight" }, h("h3", {}, name), h("dl", { class: "keys" }, keys.map(([key, text]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, text))))))));
  document.body.append(dialog);
  dialog.showModal();
}

function pressed(event) {
  if (event.altKey && !event.ctrlKey && !event.metaKey && /^[1-5]$/.test(event.key)) {
    event.preventDefault();
    location.hash = `#/${Object.keys(VIEWS)[Number(event.key) - 1]}`;
  } else if (event.key === "?" && !event.target.closest("input, textarea, select, dialog")) help();
}

function begin() {
  const links = Object.entries(VIEWS).map(([name, [text, drawing]]) => h("li", {}, h("a", { href: `#/${name}`, "data-view": name }, icon(drawing), text)));
  document.getElementById("nav").append(h("ul", {}, links));
  document.getElementById("tools").append(
    h("button", { type: "button", class: "bare", title: "Keys", "aria-label": "Keys", on: { click: help } }, icon("keys")),
    h("button", { type: "button", class: "bare", id: "theme", on: { click: () => { remember("theme", theme() === "dark" ? "light" : "dark"); paint(); } } }));
  dark.addEventListener("change", paint);
  addEventListener("hashchange", open);
  addEventListener("keydown", pressed);
  document.querySelector(".skip").addEventListener("click", event => { event.preventDefault(); root.focus(); });
  paint();
  open();
}

begin();
