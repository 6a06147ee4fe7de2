/** What is behind "More": the reference, the model, the mode, the cutoff, and damage done first. */

import { $ } from "./dom.js";
import { chosenModel, showModels, unusualModel } from "./models.js";

const NONE = "none";
const MODES = {
  auto: "Looks at the recording and repairs only what is damaged.",
  extend: "Keeps the known band as it is and adds what is above the cutoff.",
  restore: "Repairs the known band too: noise, lost packets, clipping.",
};

export class Options extends EventTarget {
  #conditions = [];
  #reference = null;

  /** Events: `change`. */
  constructor() {
    super();
    const changed = () => this.#changed();
    for (const input of document.getElementsByName("mode")) input.onchange = changed;
    $("cutoff").onchange = changed;
    $("condition").onchange = changed;
    $("reference-choose").onclick = () => $("reference-file").click();
    $("reference-remove").onclick = () => this.takeReference(null);
    $("reference-file").onchange = () => {
      this.takeReference($("reference-file").files[0] ?? null);
      $("reference-file").value = "";
    };
    this.#changed();
  }

  /** @returns {import("./recording.js").Settings} */
  get settings() {
    const mode = document.querySelector('[name="mode"]:checked').value;
    return { model: chosenModel(), mode, cutoff_hz: $("cutoff").value, reference: this.#reference };
  }

  /** How recordings are damaged first; null: not at all. */
  get condition() {
    return this.#conditions.find(({ name }) => name === $("condition").value && name !== NONE) ?? null;
  }

  /** For a sample, which has nothing to repair as it is. */
  get sampleCondition() {
    return this.condition ?? this.#conditions.find(({ mode }) => mode === "extend") ?? null;
  }

  /** What the server offers. */
  show(models, conditions) {
    this.#conditions = conditions;
    $("condition").replaceChildren(...conditions.map(({ name, title }) => new Option(title, name)));
    showModels(models, () => this.#changed());
    this.#changed();
  }

  /** @param {File | null} file */
  takeReference(file) {
    this.#reference = file;
    $("reference-text").textContent = file
      ? `${file.name} shows how bright the others should sound.`
      : "A full-band one, of any voice, shows how bright yours should sound. Drop it here.";
    $("reference-remove").hidden = file === null;
    this.#changed();
  }

  #changed() {
    const { mode, cutoff_hz: cutoff, reference } = this.settings;
    $("mode-text").textContent = MODES[mode];
    $("more-text").textContent = [
      unusualModel(),
      mode !== "auto" && mode,
      cutoff && `cutoff ${cutoff} Hz`,
      reference && "with a reference",
      this.condition && `damaged: ${this.condition.title}`,
    ]
      .filter(Boolean)
      .join(", ");
    this.dispatchEvent(new Event("change"));
  }
}
