// The data report of a run, as `burnish check` makes it: rows, tokens, labels, what was found, and a row as the model sees it.

import { h } from "./dom.js";
import { count, duration, percent, plural } from "./words.js";

/** Return a report; one of several tasks as one part each. */
export function dataReport(report) {
  if (report.tasks) return Object.entries(report.tasks).flatMap(([name, one]) => [h("h2", { class: "anywhere" }, name), ...part(one)]);
  return part(report);
}

function part(report) {
  return [findings(report), report.estimate && estimate(report.estimate), sides(report), report.example && example(report.example), report.labels && labels(report.labels), sources(report)].filter(Boolean);
}

function findings(report) {
  const found = [...(report.findings ?? []), ...(report.notes ?? []).map(message => ({ level: "note", message }))];
  if (!found.length) return h("p", { class: "note good" }, "Nothing found wrong with the data.");
  return h("section", { class: "card stack tight" }, h("h2", {}, plural(found.length, "remark")),
    h("ul", { class: "plain stack tight" }, found.map(one => h("li", { class: `note ${one.level === "error" ? "bad" : one.level === "note" ? "" : "open"}` }, said(one)))));
}

function said(one) {
  return typeof one === "string" ? one : [one.message ?? one.text ?? one.rule ?? JSON.stringify(one), one.origins?.length ? ` (${one.origins.slice(0, 3).join(", ")})` : ""].join("");
}

function sides(report) {
  const rows = Object.entries(report.sides ?? {});
  return h("section", { class: "card stack tight" }, h("h2", {}, `${plural(report.rows, "row")}`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Side", "Rows", "Groups", "Tokens", "Learned", "Median length", "Longest"].map(text => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map(([name, one]) => h("tr", {}, h("th", { scope: "row" }, name), [count(one.rows), count(one.groups), count(one.tokens), one.trained_share === undefined ? "–" : percent(one.trained_share), count(one.length?.median), count(one.length?.max)].map(text => h("td", {}, text))))))));
}

function labels(found) {
  const rows = Object.entries(found.rows ?? {}), most = Math.max(1, ...rows.map(([, one]) => one.train ?? 0));
  return h("details", { class: "card", open: rows.length <= 20 }, h("summary", {}, plural(found.count, "label")),
    h("div", { class: "votes" }, rows.map(([name, one]) => h("div", { class: "vote" }, h("span", { class: "anywhere" }, name), h("progress", { class: "meter", max: most, value: one.train ?? 0, "aria-label": name }), h("span", { class: "figures soft" }, count(one.train))))));
}

function example(one) {
  return h("section", { class: "card stack tight" }, h("h2", {}, "A row as the model sees it"),
    h("p", { class: "small soft anywhere" }, `${one.origin}: ${one.trained_tokens} of ${one.tokens} tokens are learned, which are marked`),
    h("pre", { class: "text", tabindex: "0" }, one.pieces.map(piece => piece.trained ? h("mark", {}, piece.text) : piece.text)));
}

function sources(report) {
  return report.sources?.length && h("section", { class: "card stack tight" }, h("h2", {}, "Where the rows come from"),
    h("ul", { class: "plain stack tight" }, report.sources.map(one => h("li", { class: "anywhere" }, h("strong", {}, one.name), h("span", { class: "small soft" }, ` · ${one.guessed ?? one.format} · ${plural(one.rows, "row")} · sha256 ${String(one.sha256).slice(0, 12)}`)))));
}

function estimate(one) {
  const { memory, time, steps, tokens } = one;
  const gigabytes = bytes => `${(bytes / 1e9).toFixed(1)} GB`;
  const facts = [
    time && ["Training", `about ${duration(time.expected)}`, `${duration(time.low)} to ${duration(time.high)}`],
    memory && ["Memory", `about ${gigabytes(memory.expected)}`, typeof memory.free === "number" ? `${gigabytes(memory.free)} free` : ""],
    typeof steps === "number" && ["Steps", count(steps), ""],
    typeof tokens === "number" && ["Tokens", count(Math.round(tokens)), ""],
  ].filter(Boolean);
  return h("section", { class: "card stack tight" }, h("h2", {}, "What it will take"),
    h("dl", { class: "facts" }, facts.map(([name, value, more]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, more && h("small", { class: "soft" }, more))))),
    one.assumes?.length && h("details", { class: "small" }, h("summary", {}, "What this assumes"), h("ul", {}, one.assumes.map(text => h("li", {}, text)))));
}
