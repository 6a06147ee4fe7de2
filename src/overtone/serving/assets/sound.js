/** The panel where a recording comes from: a file, the microphone or a sample, and what is done to it first. */

import { MOST_SECONDS, Recorder } from "./recorder.js";

const $ = (id) => document.getElementById(id);
const NONE = "none";

/** @typedef {{name: string, blob: Blob, sample: boolean}} Source a recording, and what to call it */

export class Sound extends EventTarget {
  #api;
  #conditions = [];
  #recorder = null;
  #touched = false;

  /** Events: `source` (Source), `condition`, `failed` (Error). */
  constructor(api) {
    super();
    this.#api = api;
    $("choose").onclick = () => $("file").click();
    $("file").onchange = () => {
      if ($("file").files.length) this.#took($("file").files[0]);
      $("file").value = "";
    };
    $("record").onclick = () => this.#toggleRecording();
    $("condition").onchange = () => {
      this.#touched = true;
      this.#describe();
      this.dispatchEvent(new Event("condition"));
    };
    this.#acceptDrops();
  }

  /** The chosen condition, as the server lists it. */
  get condition() {
    return this.#conditions.find(({ name }) => name === $("condition").value) ?? { name: NONE, mode: "auto" };
  }

  showConditions(conditions) {
    const chosen = this.condition.name;
    this.#conditions = conditions;
    $("condition").replaceChildren(...conditions.map(({ name, title }) => new Option(title, name, false, name === chosen)));
    this.#describe();
  }

  showSamples(samples) {
    $("samples").replaceChildren(
      ...samples.map((sample) => {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: sample.title });
        button.setAttribute("aria-pressed", "false");
        button.onclick = () => this.#takeSample(sample, button);
        return button;
      }),
    );
  }

  #describe() {
    $("condition-text").textContent = this.condition.description ?? "";
  }

  #give(source, text) {
    $("drop-text").textContent = text;
    this.dispatchEvent(new CustomEvent("source", { detail: source }));
  }

  #mark(button) {
    for (const each of $("samples").children) each.setAttribute("aria-pressed", String(each === button));
  }

  #took(file) {
    this.#mark(null);
    $("credit").textContent = "";
    this.#give({ name: file.name, blob: file, sample: false }, file.name);
  }

  async #takeSample(sample, button) {
    try {
      const blob = await this.#api.sample(sample.url);
      this.#mark(button);
      $("credit").textContent = `By ${sample.by}, ${sample.licence}`;
      $("credit").title = sample.source;
      // A sample has nothing to repair: as it is, a model would have nothing to do.
      const first = this.#conditions.find(({ mode }) => mode === "extend");
      if (!this.#touched && first) {
        $("condition").value = first.name;
        this.#describe();
      }
      this.#give({ name: `${sample.name}.flac`, blob, sample: true }, sample.title);
    } catch (error) {
      this.#failed(error);
    }
  }

  async #toggleRecording() {
    const recorder = this.#recorder;
    try {
      if (recorder) {
        this.#recorder = null;
        const blob = await recorder.stop();
        this.#mark(null);
        $("credit").textContent = "";
        this.#give({ name: "recording.wav", blob, sample: false }, "Your recording");
      } else {
        const fresh = new Recorder((seconds, level) => this.#heard(seconds, level));
        await fresh.start();
        this.#recorder = fresh;
      }
    } catch (error) {
      this.#failed(error);
    }
    this.#showRecording();
  }

  #heard(seconds, level) {
    if (!this.#recorder) return;
    $("level").value = level;
    $("record-text").textContent = `Stop (${Math.floor(seconds)} s)`;
    if (seconds >= MOST_SECONDS) this.#toggleRecording();
  }

  #showRecording() {
    const on = this.#recorder !== null;
    $("record").setAttribute("aria-pressed", String(on));
    $("record-text").textContent = on ? "Stop" : "Record";
    $("level").hidden = !on;
  }

  #acceptDrops() {
    const drop = $("drop");
    // A file that is dropped beside the panel would replace the page.
    for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
    document.addEventListener("dragover", () => (drop.dataset.over = "yes"));
    for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => (drop.dataset.over = "no"));
    document.addEventListener("drop", ({ dataTransfer }) => {
      if (dataTransfer.files.length) this.#took(dataTransfer.files[0]);
    });
  }

  #failed(error) {
    this.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }
}
