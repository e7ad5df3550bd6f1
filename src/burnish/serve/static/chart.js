// A line chart as SVG: points in, a drawing out, with the nearest point's values read out under the pointer.

import { fill, h, s } from "./dom.js";
import { figure } from "./words.js";

const HEIGHT = 200, LEFT = 56, RIGHT = 12, TOP = 10, BOTTOM = 26, USUAL = 420;
const MOST = 600;

/** Return a figure of series {name, kind, points: [[x, y], …]}; `title` says what is drawn, `x` what runs along the bottom, as far as `until`. */
export function chart(title, series, { x = "step", until = null } = {}) {
  const drawn = series.map(one => ({ ...one, points: thinned(one.points.filter(([, y]) => Number.isFinite(y))) })).filter(one => one.points.length);
  const caption = h("figcaption", {}, h("h3", {}, title), h("span", { class: "legend" }, series.length > 1 && series.map(one => h("span", { class: `key ${one.kind}` }, one.name))));
  if (!drawn.length) return h("figure", { class: "chart" }, caption, h("p", { class: "soft" }, "Nothing is measured yet."));
  const place = h("div", {}), reading = h("p", { class: "reading small soft figures" }, last(drawn, x));
  const draw = width => fill(place, lines(title, drawn, { x, until, reading, width }));
  draw(USUAL);
  // As wide as there is room, so that text and lines are never scaled.
  new ResizeObserver(([entry]) => draw(Math.max(240, Math.round(entry.contentRect.width)))).observe(place);
  return h("figure", { class: "chart" }, caption, place, reading);
}

function lines(title, drawn, { x, until, reading, width }) {
  const xs = drawn.flatMap(one => one.points.map(([value]) => value)), ys = drawn.flatMap(one => one.points.map(([, value]) => value));
  const across = scale(Math.min(...xs), Math.max(...xs, until ?? -Infinity), LEFT, width - RIGHT), up = scale(...padded(ys), HEIGHT - BOTTOM, TOP);
  const cross = s("g", { class: "cross", visibility: "hidden" });
  const svg = s("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${last(drawn, x)}` },
    ticks(up.low, up.high, 4).map(value => [s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: up(value), y2: up(value) }), s("text", { x: LEFT - 8, y: up(value) + 4, "text-anchor": "end" }, short(value))]),
    ticks(across.low, across.high, width > 360 ? 6 : 4, true).map(value => s("text", { x: across(value), y: HEIGHT - 6, "text-anchor": "middle" }, short(value))),
    drawn.map(one => [
      one.points.length > 1 && s("polyline", { class: `line ${one.kind}`, points: one.points.map(([a, b]) => `${across(a).toFixed(1)},${up(b).toFixed(1)}`).join(" ") }),
      one.points.length <= 30 && one.points.map(([a, b]) => s("circle", { class: `dot ${one.kind}`, cx: across(a), cy: up(b), r: 3 }))]),
    cross);
  svg.addEventListener("pointermove", event => {
    const at = across.back(event.clientX - svg.getBoundingClientRect().left);
    const near = drawn.map(one => ({ ...one, point: one.points.reduce((best, point) => Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best) }));
    fill(cross, s("line", { class: "at", x1: across(near[0].point[0]), x2: across(near[0].point[0]), y1: TOP, y2: HEIGHT - BOTTOM }), near.map(one => s("circle", { class: `dot ${one.kind}`, cx: across(one.point[0]), cy: up(one.point[1]), r: 4 })));
    cross.setAttribute("visibility", "visible");
    reading.textContent = near.map(one => `${x} ${one.point[0]}: ${one.name} ${figure(one.point[1])}`).join(" · ");
  });
  svg.addEventListener("pointerleave", () => { cross.setAttribute("visibility", "hidden"); reading.textContent = last(drawn, x); });
  return svg;
}

function last(drawn, x) {
  return drawn.map(one => `${one.name} ${figure(one.points.at(-1)[1])} at ${x} ${one.points.at(-1)[0]}`).join(" · ");
}

function thinned(points) {
  const every = Math.ceil(points.length / MOST);
  return every <= 1 ? points : points.filter((_, place) => place % every === 0 || place === points.length - 1);
}

function padded(values) {
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function scale(low, high, from, to) {
  const span = high - low || 1;
  const place = value => from + (value - low) / span * (to - from);
  return Object.assign(place, { low, high, back: at => low + (at - from) / (to - from) * span });
}

function ticks(low, high, about, whole = false) {
  const rough = (high - low || 1) / about, power = 10 ** Math.floor(Math.log10(rough));
  let size = [1, 2, 5, 10].map(one => one * power).find(one => one >= rough);
  if (whole) size = Math.max(1, Math.round(size));
  const found = [];
  for (let value = Math.ceil(low / size) * size; value <= high + size * 1e-6; value += size) found.push(Math.abs(value) < size * 1e-6 ? 0 : value);
  return found;
}

function short(value) {
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1).replace(".0e", "e");
  return Math.abs(value) >= 10000 ? `${Math.round(value / 1000)}k` : String(Number(value.toPrecision(3)));
}
