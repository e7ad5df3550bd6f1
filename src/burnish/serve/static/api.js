// Asking the server. Every error of it arrives as an Error whose message is meant for a person.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Return the answer of a route as plain values. `options`: method, body (sent as JSON), form (sent as a form with files), signal. */
export async function ask(path, options = {}) {
  const response = await reach(path, options);
  return response.status === 204 ? null : response.json();
}

/** Return the response itself; raises Refused where it says no, or where nobody answers. */
export async function reach(path, { method, body, form, signal } = {}) {
  const sent = form ?? (body === undefined ? undefined : JSON.stringify(body));
  let response;
  try {
    response = await fetch(path, {
      method: method ?? (sent === undefined ? "GET" : "POST"),
      body: sent,
      signal,
      cache: "no-store",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is burnish serve still running?", 0);
  }
  if (!response.ok) throw new Refused(await reason(response), response.status);
  return response;
}

async function reason(response) {
  try {
    const said = (await response.json()).error;
    return typeof said === "string" ? said : said.message;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

/** Yield the objects of a stream of server-sent events, until [DONE]. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split(/\r?\n/).filter(line => line.startsWith("data:")).map(line => line.slice(5).trimStart()).join("\n");
        if (data === "[DONE]") return;
        if (data) yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Let a model answer, piece by piece; one that was taught to continue plain text continues the last message. `heard(text)` is called with all that is said so far.
 * Returns {text, stopped, finish, first, total, prompt, tokens}: times in milliseconds, `stopped` where the signal ended it.
 */
export async function complete(model, { messages, ...sampling }, { signal, heard }) {
  const begun = performance.now();
  const result = { text: "", stopped: false, finish: null, first: null, total: 0, prompt: null, tokens: null };
  try {
    const talks = model.kind !== "continues";
    const said = talks ? { messages } : { prompt: messages.at(-1).content };
    const body = { model: model.name, ...said, ...sampling, stream: true, stream_options: { include_usage: true } };
    const response = await reach(talks ? "/v1/chat/completions" : "/v1/completions", { body, signal });
    for await (const event of events(response)) {
      if (event.error) throw new Refused(event.error.message, 500);
      const choice = event.choices?.[0];
      const piece = choice?.delta?.content ?? choice?.text;
      if (piece) {
        result.first ??= performance.now() - begun;
        result.text += piece;
        heard(result.text);
      }
      if (choice?.finish_reason) result.finish = choice.finish_reason;
      if (event.usage) Object.assign(result, { prompt: event.usage.prompt_tokens, tokens: event.usage.completion_tokens });
    }
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) throw error;
    result.stopped = true;
  }
  result.total = performance.now() - begun;
  return result;
}
