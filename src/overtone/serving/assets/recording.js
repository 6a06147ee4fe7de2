/** One recording on its way: uploaded once, enhanced, then heard and downloaded in any format. */

import { Refusal, withQuery } from "./api.js";

/**
 * @typedef {object} Settings
 * @property {string} model a reference of `GET /v1/models`
 * @property {string} mode
 * @property {string} cutoff_hz empty: found in the recording
 * @property {File | null} reference a good recording of the same microphone
 */

export class Recording extends EventTarget {
  /** What is sent: the file, or what a damage made of it. */
  before;
  /** The file itself, where it was damaged first. */
  original = null;
  /** Enhanced, as FLAC; null until it is. */
  after = null;
  /** Sentences about what was found in it. */
  found = [];
  /** Levels over time and frequency by name, for the pictures. */
  levels = {};
  state = "new";
  share = 0;
  failure = "";
  #api;
  #job = null;
  #made = "";

  /**
   * Events: `change`, whenever something above does.
   * @param {File} file
   * @param {{name: string} | null} condition how it is damaged first
   */
  constructor(api, file, condition) {
    super();
    this.#api = api;
    this.file = this.before = file;
    this.condition = condition;
  }

  /** Whether this is what these settings make of it. */
  isMadeWith(settings) {
    return this.state === "done" && this.#made === this.#told(settings);
  }

  /** Another damage, null for none. */
  damageWith(condition) {
    if (this.condition?.name === condition?.name) return;
    this.condition = condition;
    this.#clear();
    this.#become("new");
  }

  /** @param {Settings} settings @param {AbortSignal} signal */
  async enhance({ reference, ...query }, signal) {
    this.#clear();
    try {
      if (this.condition) await this.#damage(signal);
      const onProgress = (stage, share) => this.#become(stage, share);
      onProgress("uploading", 0);
      this.#job = await this.#api.enhance({ file: this.before, reference }, query, { signal, onProgress });
      this.#become("fetching");
      const { found } = await this.#api.json(`${this.#job}/report`, { signal });
      this.after = await this.fetchAs("flac", signal);
      for (const name of ["before", "after"]) this.levels[name] = await this.#levelsOf(name, signal);
      this.found = found;
      this.#made = this.#told({ reference, ...query });
      this.#become("done", 1);
    } catch (error) {
      this.#clear();
      const cancelled = error.name === "AbortError";
      if (!cancelled && !(error instanceof Refusal)) console.error(error);
      this.failure = cancelled ? "" : error.message.replace(/^Audio: /, `${this.file.name}: `);
      this.#become(cancelled ? "new" : "failed");
    }
  }

  /** What was made, encoded anew and not computed anew. @returns {Promise<Blob>} */
  fetchAs(format, signal) {
    return this.#api.blob(`${this.#job}/result?format=${format}`, { signal });
  }

  /** Called when it is taken off the page. */
  forget() {
    if (this.#job) this.#api.forget(this.#job);
    this.#job = null;
  }

  async #damage(signal) {
    this.#become("damaging");
    const body = this.file;
    const path = withQuery("v1/degrade", { condition: this.condition.name, format: "flac" });
    const damaged = await this.#api.blob(path, { method: "POST", body, signal });
    this.before = new File([damaged], this.file.name.replace(/(\.[^.]*)?$/, ".flac"), { type: "audio/flac" });
    this.original = this.file;
  }

  async #levelsOf(name, signal) {
    const blob = await this.#api.blob(`${this.#job}/levels?of=${name}`, { signal });
    return new Uint8Array(await blob.arrayBuffer());
  }

  #clear() {
    this.forget();
    this.before = this.file;
    this.original = this.after = null;
    this.levels = {};
    this.found = [];
    this.failure = "";
  }

  #told({ model, mode, cutoff_hz: cutoff, reference }) {
    return JSON.stringify([model, mode, cutoff, reference && [reference.name, reference.size, reference.lastModified]]);
  }

  #become(state, share = 0) {
    Object.assign(this, { state, share });
    this.dispatchEvent(new Event("change"));
  }
}
