// Elements out of plain values. Whatever a model, a file or a person wrote becomes a text node and nothing else: no markup is ever parsed.

const SVG = "http://www.w3.org/2000/svg";

/** Return an element; `on` holds its listeners, `false`, `null` and `undefined` leave an attribute out, children are nodes or plain values. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "value" || name === "checked" || name === "open") element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...plain(children));
  return element;
}

function plain(children) {
  return children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false)
    .map(child => child instanceof Node ? child : document.createTextNode(String(child)));
}

/** Put other children into an element. */
export function fill(element, ...children) {
  element.replaceChildren(...plain(children));
  return element;
}

/** Tell those who cannot see the page what happened. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** Show a passing remark; mistakes stay until they are closed. */
export function toast(text, kind = "") {
  const close = h("button", { type: "button", "aria-label": "Close this message", on: { click: () => one.remove() } }, "✕");
  const one = h("div", { class: `toast ${kind}`, role: kind === "bad" ? "alert" : "status" }, h("span", {}, text), close);
  document.getElementById("toasts").append(one);
  if (kind !== "bad") setTimeout(() => one.remove(), 4500);
}

const SHAPES = {
  chat: ["M4.500 5.500h15v10h-8.500l-4 3.500v-3.500h-2.500z"],
  compare: ["M4 5h7v14h-7z", "M14 5h6v14h-6z"],
  rate: ["M12 4l2.400 5 5.400.700-4 3.800 1 5.500-4.800-2.700-4.800 2.700 1-5.500-4-3.800 5.400-.700z"],
  runs: ["M4 19v-15", "M4 19h16", "M7.500 15l4-5 3 2.500 5-6.500"],
  new: ["M12 5v14", "M5 12h14"],
  send: ["M12 19v-13", "M6 11l6-6 6 6"],
  stop: ["M7 7h10v10h-10z"],
  sun: ["M12 8.500a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7", "M12 3v2M12 19v2M3 12h2M19 12h2M5.600 5.600l1.400 1.400M17 17l1.400 1.400M5.600 18.400l1.400-1.400M17 7l1.400-1.400"],
  moon: ["M19 14.500a7.500 7.500 0 0 1-9.500-9.500 7.500 7.500 0 1 0 9.500 9.500z"],
  keys: ["M3.500 7h17v10h-17z", "M7 10.500h.01M10.500 10.500h.01M14 10.500h.01M17 10.500h.01M8 13.800h8"],
  edit: ["M5 19l.8-3.600 9.700-9.700 2.800 2.800-9.700 9.700z"],
  again: ["M18.500 8a7 7 0 1 0 .8 6", "M19 4.500v4h-4"],
  copy: ["M9 9h10v10h-10z", "M5 15v-10h10"],
  sliders: ["M4 8h9M17 8h3M4 16h3M11 16h9", "M15 6v4M9 14v4"],
  file: ["M7 4h7l4 4v12h-11z", "M14 4v4h4"],
};

/** Return a small drawing that says nothing to a screen reader: the word stands beside it. */
export function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, SHAPES[name].map(d => s("path", { d })));
}

let numbered = 0;

/** Return a label with its field, tied together; `hint` says more. */
export function field(text, input, hint = null) {
  input.id ||= `f${++numbered}`;
  const below = hint === null ? null : h("p", { class: "hint", id: `${input.id}-hint` }, hint);
  if (below) input.setAttribute("aria-describedby", below.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, text), input, below);
}

/** Return a choice between values; `options` are {value, text} or plain texts. */
export function select(options, chosen, change = () => {}) {
  const box = h("select", { on: { change: () => change(box.value) } }, options.map(one => {
    const { value, text } = typeof one === "object" ? one : { value: one, text: one };
    return h("option", { value }, text);
  }));
  if (chosen !== null && chosen !== undefined) box.value = chosen;
  if (box.selectedIndex < 0 && box.options.length) box.selectedIndex = 0;
  return box;
}

/** Copy a text, and say so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast("The browser did not allow copying.", "bad");
  }
}
