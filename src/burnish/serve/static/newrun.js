// New run: a use case or a file of one's own becomes a draft on the server; its data is checked, and it is started as a process of its own.

import { ask } from "./api.js";
import { dataReport } from "./datareport.js";
import { field, fill, h, icon, say, select, toast } from "./dom.js";
import { ago } from "./words.js";

const EVERY = 800;

export async function newRun(root, query, rest) {
  return rest[0] ? edit(root, rest[0]) : pick(root);
}

// ---------------------------------------------------------------------------------------------------------------- what it is about

async function pick(root) {
  const { usecases, drafts } = await ask("/page/drafts");
  const problem = h("p", { class: "note bad", role: "alert", hidden: true });
  const busy = h("p", { class: "row soft", hidden: true }, h("span", { class: "spin" }), h("span", {}, "Reading your rows"));
  const make = async (path, options) => {
    problem.hidden = true;
    busy.hidden = false;
    try {
      location.hash = `#/new/${(await ask(path, options)).id}`;
    } catch (error) {
      problem.hidden = false;
      problem.textContent = error.message;
    }
    busy.hidden = true;
  };
  fill(root, h("div", { class: "view" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "New run"), h("p", {}, "Bring rows of the job, or look at how a ready-made one works. Nothing is trained before you have seen what would be learned."))),
    upload(file => make("/page/drafts/upload", uploaded(file))), busy, problem,
    h("section", { class: "stack" }, h("h2", {}, "Or begin with a use case and its sample rows"),
      h("ul", { class: "choices" }, usecases.map(one => h("li", {}, h("button", { type: "button", class: "choice", on: { click: () => make("/page/drafts", { body: { usecase: one.name } }) } }, h("strong", {}, one.title), h("span", { class: "soft small" }, one.summary)))))),
    drafts.length > 0 && h("section", { class: "stack" }, h("h2", {}, "Begun and not started"), h("ul", { class: "list" }, drafts.map(one => begun(one, root))))));
}

function begun(one, root) {
  const drop = async () => {
    try {
      await ask(`/page/drafts/${one.id}`, { method: "DELETE" });
      await pick(root);
    } catch (error) { toast(error.message, "bad"); }
  };
  return h("li", { class: "card item" }, h("div", { class: "grow" }, h("h3", { class: "anywhere" }, h("a", { href: `#/new/${one.id}` }, one.settings.name)), h("p", { class: "small soft anywhere" }, `${one.about} · ${ago(one.time)}`)),
    h("div", { class: "row" }, h("button", { type: "button", class: "bare", "aria-label": `Delete the draft ${one.settings.name}`, on: { click: drop } }, "Delete"), h("a", { class: "button", href: `#/new/${one.id}` }, "Go on")));
}

function upload(take) {
  const input = h("input", { type: "file", class: "unseen", id: "rows", on: { change: () => input.files[0] && take(input.files[0]) } });
  const zone = h("label", { class: "drop", for: "rows" }, icon("file"), h("strong", {}, "My own data"), h("span", { class: "soft small" }, "Drop a file here or choose one: CSV, JSON, JSON Lines, Parquet, plain text. Format and task are guessed from the rows."));
  const over = on => event => { event.preventDefault(); zone.classList.toggle("over", on); };
  for (const [name, listener] of [["dragover", over(true)], ["dragleave", over(false)], ["drop", over(false)]]) zone.addEventListener(name, listener);
  zone.addEventListener("drop", event => event.dataTransfer.files[0] && take(event.dataTransfer.files[0]));
  return h("div", { class: "dropping" }, input, zone);
}

/** Return the options that send a file; the browser itself writes the boundaries of a form. */
function uploaded(file) {
  const form = new FormData();
  form.append("file", file, file.name);
  return { form };
}

// ---------------------------------------------------------------------------------------------------------------- settings and check

async function edit(root, id) {
  const draft = await ask(`/page/drafts/${id}`);
  if (draft.run) { location.replace(`#/runs/${draft.run}`); return null; }
  const view = { id, draft, timer: null, gone: false, root };
  view.form = h("form", { class: "card stack", on: { submit: event => { event.preventDefault(); check(view); } } });
  view.report = h("div", { class: "stack", "aria-live": "polite" });
  fill(root, h("div", { class: "view" },
    h("div", { class: "stack tight" }, h("p", { class: "small" }, h("a", { href: "#/new" }, "← New run")), h("h1", {}, "Check, then start"), h("p", { class: "soft anywhere" }, draft.about)),
    draft.why.length > 0 && h("ul", { class: "note plain" }, draft.why.map(reason => h("li", { class: "anywhere" }, reason))),
    h("div", { class: "drafting" }, view.form, view.report)));
  drawForm(view);
  if (draft.checking) poll(view);
  else if (!draft.report && !draft.problem) check(view);
  else drawReport(view);
  return () => { view.gone = true; clearTimeout(view.timer); };
}

function drawForm(view) {
  const { draft } = view, { settings, choices } = draft;
  const inputs = view.inputs = {
    name: h("input", { type: "text", required: true, maxlength: 64, pattern: "[a-z0-9][a-z0-9._\\-]*", value: settings.name, spellcheck: "false", autocapitalize: "off" }),
    model: h("input", { type: "text", required: settings.model !== null, disabled: settings.model === null, placeholder: "a fresh one, as the run file says", list: "known-models", value: settings.model ?? "", spellcheck: "false", autocapitalize: "off" }),
    objective: select(choices.objectives.map(one => ({ value: one.name, text: one.title })), settings.objective),
    technique: select(choices.techniques, settings.technique),
    epochs: h("input", { type: "number", min: 0.1, max: 1000, step: "any", value: settings.epochs ?? "", placeholder: "as it stands", inputmode: "decimal" }),
    batch: h("input", { type: "number", min: 1, max: 4096, step: 1, value: settings.batch ?? "", placeholder: "as it stands", inputmode: "numeric" }),
    learning_rate: h("input", { type: "number", min: 0, step: "any", value: settings.learning_rate ?? "", placeholder: "by the technique", inputmode: "decimal" }),
    limit: h("input", { type: "number", min: 1, step: 1, value: settings.limit ?? "", placeholder: "all", inputmode: "numeric" }),
    group: select([{ value: "", text: "rows are independent" }, ...choices.columns], settings.group ?? ""),
  };
  view.go = h("button", { type: "submit", class: "main" }, "Check");
  view.start = h("button", { type: "button", on: { click: () => start(view) } }, "Start the run");
  // What is missing may stand in a closed part, where a browser cannot show it.
  view.form.addEventListener("invalid", event => { for (let part = event.target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true; }, true);
  view.form.addEventListener("input", () => { view.stale = true; buttons(view); });
  fill(view.form, h("h2", {}, "Settings"),
    field("Name", inputs.name, "Small letters, digits and . _ -"),
    field("Base model", inputs.model, "A bundled model, a run of yours, a folder or a hub id"), h("datalist", { id: "known-models" }, choices.models.map(one => h("option", { value: one }))),
    choices.formats.length > 0 && reading(view),
    choices.objectives.length > 1 && field("Objective", inputs.objective),
    field("Technique", inputs.technique, "Which weights may move: all of a small model (full), an adapter of a large one (lora)"),
    h("div", { class: "pair" }, field("Epochs", inputs.epochs), field("Batch", inputs.batch)),
    h("details", {}, h("summary", {}, "More"), h("div", { class: "inside stack" },
      field("Learning rate", inputs.learning_rate), field("Rows at most", inputs.limit, "A small number first shows whether everything fits"),
      choices.columns.length > 0 && field("Belongs together", inputs.group, "Rows with the same value stay on one side of the split: one customer, one document"))),
    h("div", { class: "row" }, view.go, view.start));
  buttons(view);
}

/** Return the fields that correct the guess: as what the rows are read, and which column holds what. */
function reading(view) {
  const { settings, choices } = view.draft, place = h("div", { class: "stack tight" });
  const columns = () => {
    const format = choices.formats.find(one => one.name === view.inputs.format.value);
    view.columns = Object.fromEntries(format.columns.map(({ name, needed, also }) => {
      const same = format.name === settings.format ? settings.columns[name] : undefined;
      const known = same ?? choices.columns.find(one => [name, ...also].includes(one)) ?? "";
      // A column may be put together from several, as "{title}: {body}".
      const written = known && !choices.columns.includes(known) ? [known] : [];
      return [name, select([{ value: "", text: needed ? "choose a column" : "none" }, ...written, ...choices.columns], known)];
    }));
    fill(place, h("p", { class: "hint" }, format.about), Object.entries(view.columns).map(([name, input]) => field(name.replaceAll("_", " "), input)));
  };
  view.inputs.format = select(choices.formats.map(one => one.name), settings.format, columns);
  columns();
  return h("details", {}, h("summary", {}, "How the rows are read"), h("div", { class: "inside stack tight" }, field("Format", view.inputs.format), place));
}

function buttons(view) {
  const { draft } = view, ready = draft.report && !view.stale && !draft.checking;
  view.go.disabled = draft.checking;
  view.go.textContent = draft.report || draft.problem ? "Check again" : "Check";
  view.go.className = ready ? "" : "main";
  view.start.disabled = !ready;
  view.start.className = ready ? "main" : "";
}

function entered(view) {
  const number = input => input.value === "" ? null : Number(input.value);
  const { name, model, objective, technique, epochs, batch, learning_rate, limit, group, format } = view.inputs;
  const { settings } = view.draft;
  const columns = view.columns ? Object.fromEntries(Object.entries(view.columns).map(([key, input]) => [key, input.value]).filter(([, value]) => value)) : settings.columns;
  return { name: name.value.trim(), model: model.value.trim() || null, objective: objective.value, technique: technique.value, epochs: number(epochs), batch: number(batch), learning_rate: number(learning_rate), limit: number(limit), group: group.value || null, format: format?.value ?? settings.format, columns };
}

async function check(view) {
  try {
    view.draft = await ask(`/page/drafts/${view.id}/check`, { body: entered(view) });
    view.stale = false;
    poll(view);
  } catch (error) {
    fill(view.report, h("p", { class: "note bad", role: "alert" }, error.message));
  }
}

function poll(view) {
  drawReport(view);
  buttons(view);
  if (!view.draft.checking) return say(view.draft.problem ? "The check found problems" : "The check is done");
  view.timer = setTimeout(async () => {
    try {
      view.draft = await ask(`/page/drafts/${view.id}`);
    } catch (error) {
      if (error.status === 404) return fill(view.report, h("p", { class: "note bad", role: "alert" }, error.message));
    }
    if (!view.gone) poll(view);
  }, EVERY);
}

function drawReport(view) {
  const { draft } = view;
  view.report.setAttribute("aria-busy", String(draft.checking));
  fill(view.report, draft.checking ? h("section", { class: "card empty" }, h("span", { class: "spin" }), h("p", {}, "Checking run file and rows. No weights are read for that."))
    : draft.problem ? h("p", { class: "note bad", role: "alert" }, draft.problem)
    : draft.report ? dataReport(draft.report) : null);
}

async function start(view) {
  view.start.disabled = true;
  try {
    location.hash = `#/runs/${(await ask(`/page/drafts/${view.id}/start`, { method: "POST" })).run}`;
  } catch (error) {
    toast(error.message, "bad");
    buttons(view);
  }
}
