/** One recording on its way: uploaded once, enhanced, then heard and downloaded in any format. */

import { Refusal, sentence } from "./api.js";

/**
 * @typedef {object} Settings
 * @property {string} model a reference of `GET /v1/models`
 * @property {string} mode
 * @property {string} cutoff_hz empty: found in the recording
 * @property {File | null} reference a good recording of the same microphone
 */

export class Recording extends EventTarget {
  /** Addresses to play: the file itself where it was damaged first, what is enhanced, what came of it. */
  urls = {};
  /** What was found wrong, as {name, evidence}, and what was done, in a sentence; null until it is known. */
  report = null;
  /** Levels over time and frequency by name, for the pictures. */
  levels = {};
  /** `new`, `uploading`, `waiting`, `computing`, `fetching`, `done` or `failed`. */
  state = "new";
  share = 0;
  failure = "";
  #api;
  #local;
  #job = null;
  #made = null;

  /**
   * Events: `change`, whenever something above does.
   * @param {File} file
   * @param {{name: string, title: string} | null} condition how it is damaged first
   */
  constructor(api, file, condition) {
    super();
    this.#api = api;
    this.file = file;
    this.condition = condition;
    this.#local = URL.createObjectURL(file);
    this.urls = { before: this.#local };
  }

  /** Whether it was enhanced with these settings. */
  isMadeWith(settings) {
    return this.state === "done" && same(this.#made, { ...settings, condition: this.condition?.name });
  }

  /** Damage it otherwise, or not at all, from the next time on. */
  damageWith(condition) {
    this.condition = condition;
    this.#become(this.state, this.share);
  }

  /** @param {Settings} settings @param {AbortSignal} signal */
  async enhance(settings, signal) {
    const { reference, ...query } = settings;
    const uploaded = this.#job && this.#made.reference === reference ? this.#job : null;
    const files = uploaded ? null : { file: this.file, reference };
    try {
      const onProgress = (stage, share) => this.#become(stage, share);
      onProgress(uploaded ? "waiting" : "uploading", 0);
      const parameters = { ...query, condition: this.condition?.name, format: "flac", source: uploaded };
      const job = await this.#api.enhance(files, parameters, { signal, onProgress });
      this.#clear();
      this.#job = job;
      this.#made = { ...settings, condition: this.condition?.name };
      this.#become("fetching");
      await this.#fetch(signal);
      this.#become("done", 1);
    } catch (error) {
      this.#clear();
      // The server keeps a job for a while only.
      if (uploaded && error.status === 404) return this.enhance(settings, signal);
      const cancelled = error.name === "AbortError";
      if (!cancelled && !(error instanceof Refusal)) console.error(error);
      this.failure = cancelled ? "" : sentence(error.message.replace(/^Audio: /, ""));
      this.#become(cancelled ? "new" : "failed");
    }
    return undefined;
  }

  /** What was made, encoded anew and not computed anew. @returns {Promise<Blob>} */
  fetchAs(format) {
    return this.#api.blob(`v1/jobs/${this.#job}/result?format=${format}`);
  }

  /** Called when it is taken off the page. */
  forget() {
    this.#clear();
    URL.revokeObjectURL(this.#local);
  }

  async #fetch(signal) {
    const path = `v1/jobs/${this.#job}`;
    const report = await this.#api.json(`${path}/report`, { signal });
    const after = await this.#api.url(`${path}/result?format=flac`, signal);
    // Where the browser cannot play the file, the server's copy of it is heard.
    const other = this.condition || !(await isPlayable(this.#local));
    const before = other ? await this.#api.url(`${path}/original?format=flac`, signal) : this.#local;
    for (const [name, of] of [["before", "original"], ["after", "result"]]) {
      const levels = await this.#api.blob(`${path}/levels?of=${of}`, { signal });
      this.levels[name] = new Uint8Array(await levels.arrayBuffer());
    }
    this.urls = { before, after, ...(this.condition && { original: this.#local }) };
    this.report = { ...report, done: sentence(report.done) };
  }

  #clear() {
    if (this.#job) this.#api.forget(this.#job);
    this.#job = this.#made = null;
    for (const url of Object.values(this.urls)) if (url !== this.#local) URL.revokeObjectURL(url);
    this.urls = { before: this.#local };
    this.levels = {};
    this.report = null;
    this.failure = "";
  }

  #become(state, share = 0) {
    Object.assign(this, { state, share });
    this.dispatchEvent(new Event("change"));
  }
}

function same(one, other) {
  return Object.keys(other).every((name) => one[name] === other[name]);
}

/** Whether the browser knows the format; it looks at the head alone. */
function isPlayable(url) {
  return new Promise((resolve) => {
    const audio = new Audio();
    audio.preload = "metadata";
    audio.onloadedmetadata = () => resolve(true);
    audio.onerror = () => resolve(false);
    audio.src = url;
  });
}
