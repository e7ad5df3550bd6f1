// What this browser remembers between visits. Nothing here is needed: judgements, drafts and runs lie on the server.

const PREFIX = "burnish.";

export function recall(name, otherwise) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // A full or forbidden store: the page works without it.
  }
}

/** A store of one browser tab's visit: what was typed and not yet sent. */
export function draft(name, otherwise = "") {
  try {
    return sessionStorage.getItem(PREFIX + name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function keepDraft(name, text) {
  try {
    sessionStorage.setItem(PREFIX + name, text);
  } catch {
    // as above
  }
}
