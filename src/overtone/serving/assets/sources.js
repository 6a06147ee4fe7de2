/** Where recordings come from: files that are chosen or dropped, the microphone, samples. */

import { $, made } from "./dom.js";
import { MOST_SECONDS, Recorder } from "./recorder.js";

export class Sources extends EventTarget {
  #api;
  #recorder = null;

  /** Events: `file` ({file, sample}), `reference` (File), `failed` (Error). */
  constructor(api) {
    super();
    this.#api = api;
    $("choose").onclick = () => $("file").click();
    $("file").onchange = () => {
      for (const file of $("file").files) this.#give(file);
      $("file").value = "";
    };
    $("record").onclick = () => this.#toggleRecording();
    this.#acceptDrops();
  }

  /** @param {object[]} samples as `GET /v1/samples` lists them */
  showSamples(samples) {
    $("samples").replaceChildren(
      ...samples.map(({ title, name, url, by, licence }) => {
        const tip = `By ${by}, ${licence}`;
        const button = made("button", { type: "button", className: "chip", textContent: title, title: tip });
        button.onclick = () => this.#attempt(async () => this.#give(new File([await this.#api.blob(url)], `${name}.flac`), true));
        return button;
      }),
    );
  }

  #give(file, sample = false) {
    this.dispatchEvent(new CustomEvent("file", { detail: { file, sample } }));
  }

  async #attempt(action) {
    try {
      await action();
    } catch (error) {
      this.dispatchEvent(new CustomEvent("failed", { detail: error }));
    }
  }

  async #toggleRecording() {
    const recorder = this.#recorder;
    this.#recorder = null;
    await this.#attempt(async () => {
      if (recorder) return this.#give(await recorder.stop());
      const fresh = new Recorder((seconds, level) => this.#recorded(seconds, level));
      await fresh.start();
      this.#recorder = fresh;
      return undefined;
    });
    const on = this.#recorder !== null;
    $("record").ariaPressed = String(on);
    $("record-text").textContent = on ? "Stop" : "Record";
    $("level").hidden = !on;
  }

  #recorded(seconds, level) {
    if (!this.#recorder) return;
    $("level").value = level;
    $("record-text").textContent = `Stop (${Math.floor(seconds)} s)`;
    if (seconds >= MOST_SECONDS) this.#toggleRecording();
  }

  #acceptDrops() {
    const mark = (target) => {
      for (const id of ["drop", "reference"]) $(id).dataset.over = $(id).contains(target) ? "yes" : "no";
    };
    // A file that is dropped beside the places for it would replace the page.
    for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
    document.addEventListener("dragover", ({ target }) => mark(target));
    document.addEventListener("dragleave", () => mark(null));
    document.addEventListener("drop", ({ target, dataTransfer: { files } }) => {
      mark(null);
      const reference = $("reference").contains(target);
      if (reference && files.length) this.dispatchEvent(new CustomEvent("reference", { detail: files[0] }));
      else for (const file of files) this.#give(file);
    });
  }
}
