// System prompt and sampling settings, shared by Chat and Compare.

import { field, h } from "./dom.js";
import { recall, remember } from "./store.js";

const DEFAULTS = { system: "", temperature: 0, top_p: 1, max_tokens: 256, seed: 0, stop: "" };

/** Return the settings last used in a view. */
export function settings(view) {
  return { ...DEFAULTS, ...recall(`${view}.settings`, {}) };
}

/** Return what the settings add to a request. */
export function asked(chosen) {
  const stop = chosen.stop.split("\n").map(one => one.replaceAll("\\n", "\n")).filter(Boolean);
  const { temperature, top_p, max_tokens, seed } = chosen;
  return { temperature, top_p, max_tokens, seed, ...(stop.length ? { stop } : {}) };
}

/** Return the fields; whatever is changed is remembered and put into `chosen`. */
export function settingFields(view, chosen, { system = true } = {}) {
  const keep = (name, value) => {
    chosen[name] = value;
    remember(`${view}.settings`, chosen);
  };
  const text = (name, rows, placeholder) => h("textarea", { rows, placeholder, value: chosen[name], spellcheck: "false", on: { input: event => keep(name, event.target.value) } });
  const whole = (name, most) => {
    const input = h("input", { type: "number", min: name === "max_tokens" ? 1 : 0, max: most, step: 1, value: chosen[name], inputmode: "numeric" });
    input.addEventListener("change", () => {
      const value = Math.round(Number(input.value));
      const valid = Number.isFinite(value) && value >= Number(input.min) && value <= most;
      if (valid) keep(name, value);
      input.value = chosen[name];
    });
    return input;
  };
  return h("div", { class: "stack" },
    system && field("System prompt", text("system", 3, "Left empty: the one the model was taught with")),
    slider("Temperature", "0: the likeliest words, the same answer each time", { min: 0, max: 2, step: 0.05, value: chosen.temperature }, value => keep("temperature", value)),
    slider("Top-p", "1: all words; lower: only the likelier ones", { min: 0.05, max: 1, step: 0.05, value: chosen.top_p }, value => keep("top_p", value)),
    h("div", { class: "pair" }, field("Longest answer", whole("max_tokens", 100000), "tokens"), field("Seed", whole("seed", 2147483647), "same seed, same answer")),
    field("Stop at", text("stop", 2, "One per line; \\n is a line break")));
}

function slider(name, hint, attributes, change) {
  const shown = h("output", { class: "figures soft" }, attributes.value.toFixed(2));
  const input = h("input", { type: "range", ...attributes });
  input.addEventListener("input", () => {
    shown.textContent = Number(input.value).toFixed(2);
    change(Number(input.value));
  });
  const made = field(name, input, hint);
  made.querySelector("label").append(" ", shown);
  return made;
}
