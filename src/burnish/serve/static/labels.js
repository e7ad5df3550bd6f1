// What a head says: its labels with how likely each is.

import { h } from "./dom.js";
import { percent } from "./words.js";

const MOST = 6;

/** Return the labels of an answer as bars, the likeliest first; without probabilities, the answer as it is. */
export function labelBars(one) {
  const scores = Object.entries(one.probabilities ?? {}).sort((a, b) => b[1] - a[1]);
  if (!scores.length) return h("pre", { class: "text" }, one.label ?? JSON.stringify(one, null, 2));
  const rows = scores.slice(0, MOST).map(([name, share]) => h("div", { class: "labelled", role: "listitem" },
    h("span", { class: "anywhere" }, name),
    h("progress", { class: "meter", max: 1, value: share, "aria-label": name }),
    h("span", { class: "figures" }, percent(share))));
  return h("div", { class: "labels", role: "list", "aria-label": "Labels and probabilities" }, rows,
    scores.length > MOST && h("p", { class: "hint" }, `and ${scores.length - MOST} less likely labels`));
}
