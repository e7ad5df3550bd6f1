// What a head reads in a text: labels with how likely each is, a number, spans, or an answer found in a context.

import { ask } from "./api.js";
import { h } from "./dom.js";
import { figure, percent } from "./words.js";

const MOST = 6;

/** Let a model's head read a text; `question` is what a head that finds answers looks for. */
export async function read(model, text, question, signal) {
  const body = { model: model.name, input: text, ...(model.asks ? { question } : {}) };
  return (await ask("/v1/classify", { body, signal })).data[0];
}

/** Return what was read in words, for copying and for those who listen. */
export function inWords(one) {
  if (one.spans) return one.spans.map(span => `${span.label}: ${span.text}`).join("; ") || "nothing marked";
  if ("answer" in one) return one.answer ?? "not stated";
  if ("number" in one) return figure(one.number);
  return one.labels ? one.labels.join(", ") || "none" : one.label;
}

/** Return what was read as a drawing beside the text that it was read in. */
export function reading(one) {
  if (one.spans) return spans(one);
  if ("answer" in one) return h("div", { class: "labels" }, h("p", { class: "prose" }, one.answer ?? "The text does not say."), h("p", { class: "hint figures" }, `log-odds against no answer ${figure(one.log_odds)}`));
  if ("number" in one) return h("p", { class: "labels number figures" }, figure(one.number));
  return bars(one);
}

function bars(one) {
  const shares = Object.entries(one.probabilities).sort((a, b) => b[1] - a[1]);
  const rows = shares.slice(0, MOST).map(([name, share]) => h("div", { class: `labelled ${(one.labels ?? [one.label]).includes(name) ? "chosen" : ""}`, role: "listitem" },
    h("span", { class: "anywhere" }, name),
    h("progress", { class: "meter", max: 1, value: share, "aria-label": name }),
    h("span", { class: "figures" }, percent(share))));
  return h("div", { class: "labels" }, h("div", { class: "stack tight", role: "list", "aria-label": "Labels and probabilities" }, rows),
    shares.length > MOST && h("p", { class: "hint" }, `and ${shares.length - MOST} less likely`), one.labels?.length === 0 && h("p", { class: "hint" }, "None is likelier than not."));
}

function spans(one) {
  const parts = [], sorted = [...one.spans].sort((a, b) => a.start - b.start);
  const letters = [...one.text];
  let at = 0;
  for (const span of sorted) {
    if (span.start < at) continue;
    parts.push(letters.slice(at, span.start).join(""), h("mark", {}, letters.slice(span.start, span.end).join(""), h("span", { class: "tag" }, span.label)));
    at = span.end;
  }
  return h("div", { class: "labels" }, h("p", { class: "prose" }, parts, letters.slice(at).join("")), sorted.length === 0 && h("p", { class: "hint" }, "Nothing was marked."));
}
