/** Requests to the server. Whatever goes wrong becomes a Refusal, whose message is a sentence to show. */

const KEY = "overtone-key";

const SENTENCES = {
  413: "The recording is larger than the server accepts.",
  415: "The server cannot read this as audio.",
  429: "The server has too many requests from here. Try again in a moment.",
  503: "The server is busy. Try again in a moment.",
};

export class Refusal extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export class Api {
  /** @param {() => Promise<string|null>} askForKey what the user gives when the server wants a key; null: nothing */
  constructor(askForKey) {
    this.askForKey = askForKey;
  }

  models = () => this.#json("v1/models");
  conditions = () => this.#json("v1/conditions");
  samples = () => this.#json("v1/samples");

  /** A sample's bytes. */
  async sample(url) {
    return (await this.#ask(url)).blob();
  }

  /** A recording at 48 kHz, damaged by a condition: {buffer, headers}. */
  degrade(blob, query, options) {
    return this.#audio("v1/degrade", blob, query, options);
  }

  /** A recording enhanced: {buffer, headers}. */
  enhance(blob, query, options) {
    return this.#audio("v1/enhance", blob, query, options);
  }

  /** Whether the server can be reached and has its model. */
  async ready() {
    try {
      const response = await fetch("readyz", { cache: "no-store" });
      return response.ok ? "ready" : "asking";
    } catch {
      return "down";
    }
  }

  async #json(path) {
    return (await this.#ask(path)).json();
  }

  /** @param {{signal?: AbortSignal, onBytes?: (bytes: number, buffer: Uint8Array) => void}} options */
  async #audio(path, blob, query, { signal, onBytes } = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
    const response = await this.#ask(`${path}?${new URLSearchParams(given)}`, { method: "POST", body: blob, signal });
    try {
      return { buffer: await whole(response, onBytes), headers: response.headers };
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal("The answer broke off: the server stopped, or could not read the recording to its end.");
    }
  }

  async #ask(path, { headers = {}, ...request } = {}) {
    for (;;) {
      const key = sessionStorage.getItem(KEY);
      const response = await this.#fetch(path, { ...request, headers: key ? { ...headers, "X-API-Key": key } : headers });
      if (response.ok) return response;
      if (response.status !== 401) throw new Refusal(await detail(response), response.status);
      // Another request may have been given a better key meanwhile.
      if (sessionStorage.getItem(KEY) !== key) continue;
      sessionStorage.removeItem(KEY);
      const given = await this.askForKey();
      if (given === null) throw new Refusal("This server asks for a key.", 401);
      sessionStorage.setItem(KEY, given);
    }
  }

  async #fetch(path, request) {
    try {
      return await fetch(path, request);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      // A server that refuses a large body early closes the connection on the rest of it.
      if (request.body && (await this.ready()) !== "down") throw new Refusal(SENTENCES[413], 413);
      throw new Refusal("The server does not answer. Is overtone serve still running?");
    }
  }
}

/** The sentence of an error's answer. */
async function detail(response) {
  try {
    const told = (await response.json()).detail;
    if (typeof told === "string" && told) return sentence(told);
  } catch {
    // A proxy in between may answer in another language than JSON.
  }
  return SENTENCES[response.status] ?? `The server answered with an error (${response.status}).`;
}

/** With a capital and a full stop. */
function sentence(text) {
  const trimmed = text.trim();
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}

/** All bytes of an answer that is still being computed. */
async function whole(response, onBytes = () => {}) {
  const reader = response.body.getReader();
  const pieces = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    bytes += value.length;
    onBytes(bytes, pieces[0]);
  }
  return new Blob(pieces).arrayBuffer();
}
