// Runs: everything below the server's run folder, the newest first, with how it stands.

import { ask } from "./api.js";
import { fill, h, icon, say } from "./dom.js";
import { ago, figure, interval, plural, signed, words } from "./words.js";

const EVERY = 2500;

/** How a run stands, as a badge. */
export function badge(state) {
  const kinds = { finished: "good", running: "live", starting: "live", failed: "bad", killed: "bad", unreadable: "bad", stopped: "open" };
  return h("span", { class: `badge ${kinds[state] ?? ""}` }, state);
}

export async function runs(root) {
  let timer = null, gone = false, before = null;
  const list = h("div", {});
  const draw = async () => {
    const found = await ask("/page/runs");
    if (gone) return;
    const text = JSON.stringify(found);
    // What a reader has in focus stays where nothing changed.
    if (text !== before) fill(list, found.runs.length ? h("ul", { class: "list" }, found.runs.map(listed)) : empty(found.folder));
    before = text;
    const live = found.runs.filter(one => one.state === "running" || one.state === "starting").length;
    if (live) say(`${plural(live, "run")} under way`);
    timer = setTimeout(() => draw().catch(() => { timer = setTimeout(draw, EVERY); }), live ? EVERY : 4 * EVERY);
  };
  fill(root, h("div", { class: "view" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Runs"), h("p", {}, "What is being tuned and what was. A run is a process of its own: closing this page, or the server, does not end it.")), h("a", { class: "button main", href: "#/new" }, icon("new"), "New run")),
    list));
  await draw();
  return () => { gone = true; clearTimeout(timer); };
}

function empty(folder) {
  return h("section", { class: "card empty" }, h("h2", {}, "No run yet"), h("p", {}, "Runs are looked for in ", h("code", {}, folder), ". Start one here, or with burnish tune."), h("a", { class: "button main", href: "#/new" }, "New run"));
}

function listed(run) {
  const live = run.state === "running" && run.steps;
  return h("li", { class: "card item" },
    h("div", { class: "grow stack tight" },
      h("div", { class: "row" }, h("h2", { class: "anywhere" }, h("a", { href: `#/runs/${run.id}` }, run.name)), badge(run.state)),
      h("p", { class: "small soft anywhere" }, [run.model, run.technique, run.objective && run.objective !== "sft" && run.objective, run.time && ago(run.time)].filter(Boolean).join(" · ")),
      live ? h("div", { class: "row" }, h("progress", { class: "meter grow", max: run.steps, value: run.step, "aria-label": "Progress" }), h("span", { class: "small soft figures" }, `step ${run.step} of ${run.steps}`))
        : run.message && h("p", { class: "small soft clip anywhere" }, run.message)),
    run.headline && h("div", { class: "headline figures" },
      h("span", { class: "small soft" }, words(run.headline.score)),
      h("strong", {}, `${figure(run.headline.base)} → ${figure(run.headline.tuned)}`),
      h("span", { class: `small ${run.headline.outcome}` }, signed(run.headline.difference), run.headline.low !== null && h("span", { class: "soft" }, ` (${interval(run.headline.low, run.headline.high, signed)})`))));
}
