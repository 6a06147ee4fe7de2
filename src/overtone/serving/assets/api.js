/** Requests to the server. Whatever goes wrong becomes a Refusal, whose message is a sentence to show. */

const KEY = "overtone-key";
const POLL_MS = 400;

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

  /** What a WebSocket, which has no headers, shows in its first message. */
  get key() {
    return sessionStorage.getItem(KEY);
  }

  /** An answer of JSON. */
  async json(path, request) {
    return (await this.#ask(path, request)).json();
  }

  /** An answer's bytes; the browser keeps a large blob on disk, not in the tab. @returns {Promise<Blob>} */
  async blob(path, request) {
    const response = await this.#ask(path, request);
    try {
      return await response.blob();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal("The answer broke off: the server stopped, or could not read the recording to its end.");
    }
  }

  /** An address to play an answer from. Without a key it is streamed; an element cannot show a key. */
  async url(path, signal) {
    return this.key ? URL.createObjectURL(await this.blob(path, { signal })) : path;
  }

  /**
   * Enhance a file: upload it, and wait until its job is done.
   * @param {{file: File, reference: File | null} | null} files null where the query names a job that has them
   * @param {object} query parameters of `POST /v1/jobs`; empty ones are left out
   * @param {{signal: AbortSignal, onProgress: (stage: string, share: number) => void}} options
   * @returns {Promise<string>} the job's id
   */
  async enhance(files, query, { signal, onProgress }) {
    const onUpload = (share) => onProgress("uploading", share);
    const request = { method: "POST", signal, ...(files && { body: formOf(files), onUpload }) };
    const { id } = await this.json(withQuery("v1/jobs", query), request);
    try {
      for (;;) {
        const { state, progress, detail } = await this.json(`v1/jobs/${id}`, { signal });
        if (state === "done") return id;
        if (state === "failed") throw new Refusal(sentence(detail));
        onProgress(state === "queued" ? "waiting" : "computing", progress);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        signal.throwIfAborted();
      }
    } catch (error) {
      this.forget(id);
      throw error;
    }
  }

  /** Cancel a job, or delete what it has made. */
  forget(id) {
    // Whether or not the server still has it: nobody waits for the answer.
    this.#ask(`v1/jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
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

  async #ask(path, { onUpload, ...request } = {}) {
    for (;;) {
      const key = this.key;
      const headers = key ? { "X-API-Key": key } : {};
      const response = await this.#send(path, { ...request, headers }, onUpload);
      if (response.ok) return response;
      if (response.status !== 401) throw new Refusal(await detail(response), response.status);
      // Another request may have been given a better key meanwhile.
      if (this.key !== key) continue;
      sessionStorage.removeItem(KEY);
      const given = await this.askForKey();
      if (given === null) throw new Refusal("This server asks for a key.", 401);
      sessionStorage.setItem(KEY, given);
    }
  }

  async #send(path, request, onUpload) {
    try {
      return await (onUpload ? upload(path, request, onUpload) : fetch(path, request));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      // A server that refuses a large body early closes the connection on the rest of it.
      if (request.body && (await this.ready()) !== "down") throw new Refusal(SENTENCES[413], 413);
      throw new Refusal("The server does not answer. Is overtone serve still running?");
    }
  }
}

function formOf(files) {
  const form = new FormData();
  for (const [field, file] of Object.entries(files)) if (file) form.append(field, file, file.name);
  return form;
}

/** A path with those parameters that have a value. */
function withQuery(path, query) {
  return `${path}?${new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value != null))}`;
}

/** As `fetch`, which cannot tell how much of a body has left. @returns {Promise<Response>} */
function upload(path, { method, body, headers, signal }, onUpload) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => onUpload(loaded / total);
    request.onload = () => resolve(new Response(request.responseText, { status: request.status }));
    request.onerror = () => reject(new TypeError("the connection failed"));
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    signal.throwIfAborted();
    request.send(body);
  });
}

/** The sentence of an error's answer. */
async function detail(response) {
  try {
    const { detail: text } = await response.json();
    if (typeof text === "string" && text) return sentence(text);
  } catch {
    // A proxy in between may answer in another language than JSON.
  }
  return SENTENCES[response.status] ?? `The server answered with an error (${response.status}).`;
}

/** With a capital and a full stop. */
export function sentence(text) {
  const trimmed = text.trim();
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}
