// Numbers and times as people read them.

/** A figure: three decimals below ten, fewer above; a dash for none. */
export function figure(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return size !== 0 && size < 0.001 ? value.toExponential(1) : value.toFixed(size < 10 ? 3 : size < 100 ? 2 : 0);
}

/** A difference with its sign. */
export function signed(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  return (value > 0 ? "+" : value < 0 ? "−" : "±") + figure(Math.abs(value));
}

export function interval(low, high, form = figure) {
  return typeof low === "number" && typeof high === "number" ? `${form(low)} to ${form(high)}` : "";
}

export function count(value) {
  return typeof value === "number" ? value.toLocaleString("en") : "–";
}

export function percent(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  const fine = (value > 0 && value < 0.1) || (value > 0.99 && value < 1);
  return `${(100 * value).toFixed(fine ? 1 : 0)}\u00a0%`;
}

/** Milliseconds as a person says them. */
export function latency(ms) {
  return ms === null || ms === undefined ? "–" : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
}

export function duration(seconds) {
  if (typeof seconds !== "number" || !Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round(seconds % 3600 / 60)} min`;
}

/** How long ago something was, from a time in ISO form. */
export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 50) return "just now";
  if (seconds < 3000) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 80000) return `${Math.round(seconds / 3600)} h ago`;
  return new Date(time).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
}

/** A name of the code as words: macro_f1 is macro f1. */
export function words(name) {
  return String(name).replaceAll("_", " ");
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
