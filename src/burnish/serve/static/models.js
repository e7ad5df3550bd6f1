// Which models answer here, and the choice between them.

import { ask } from "./api.js";
import { h, select } from "./dom.js";

let known = null;

/** Return {models, documents}: each model has name, kind ("writes", "continues" or "reads"), base, labels and run. Asked anew with `fresh`. */
export async function models(fresh = false) {
  if (known === null || fresh) known = await ask("/page/models");
  return known;
}

export function forget() {
  known = null;
}

/** Return a field that chooses one of the models. */
export function modelSelect(list, chosen, change, { empty = null } = {}) {
  const options = list.map(one => ({ value: one.name, text: one.name + (one.kind === "reads" ? " · reads" : "") }));
  return select(empty === null ? options : [{ value: "", text: empty }, ...options], chosen, change);
}

/** Return a stand-in for a view that needs a model where there is none. */
export function noModel() {
  return h("section", { class: "card empty" }, h("h2", {}, "No model answers here yet"),
    h("p", {}, "Start the server with a run or a model, or make a run of your own: what it leaves behind can be talked to at once."),
    h("a", { class: "button main", href: "#/new" }, "New run"));
}
