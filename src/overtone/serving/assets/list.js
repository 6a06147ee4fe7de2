/** The list of recordings: where each is on its way, which one is shown, and taking one away. */

import { $, made } from "./dom.js";

const STATES = {
  uploading: "uploading",
  waiting: "waiting",
  computing: "enhancing",
  fetching: "almost there",
  done: "enhanced",
  failed: "failed",
};

export class List extends EventTarget {
  #rows = new Map();
  #shown = null;

  /** Events: `show` (Recording or null), `change` when one of them changes. */
  get recordings() {
    return [...this.#rows.keys()];
  }

  get shown() {
    return this.#shown;
  }

  add(recording) {
    const row = rowOf(recording);
    this.#rows.set(recording, row);
    row.pick.onclick = () => this.show(recording);
    row.remove.onclick = () => this.#remove(recording);
    recording.addEventListener("change", () => {
      this.#draw(recording);
      this.dispatchEvent(new Event("change"));
    });
    $("recordings").append(row.item);
    this.#draw(recording);
    this.show(recording);
  }

  show(recording) {
    this.#shown = recording;
    for (const [each, { pick }] of this.#rows) pick.setAttribute("aria-pressed", String(each === recording));
    this.dispatchEvent(new CustomEvent("show", { detail: recording }));
  }

  #remove(recording) {
    recording.forget();
    this.#rows.get(recording).item.remove();
    this.#rows.delete(recording);
    if (this.#shown === recording) this.show(this.recordings.at(-1) ?? null);
    this.dispatchEvent(new Event("change"));
    $("choose").focus();
  }

  #draw(recording) {
    const { item, state, progress, remove } = this.#rows.get(recording) ?? {};
    if (!item) return;
    const { share } = recording;
    const busy = ["uploading", "waiting", "computing", "fetching"].includes(recording.state);
    const progressText = recording.state === "new" ? size(recording.file) : STATES[recording.state];
    const damaged = recording.condition ? `${recording.condition.title} · ` : "";
    item.dataset.state = recording.state;
    state.textContent = recording.failure || `${damaged}${progressText}${busy && share ? ` ${Math.round(100 * share)} %` : ""}`;
    progress.hidden = !busy;
    progress.value = share;
    remove.disabled = busy;
  }
}

function rowOf({ file: { name } }) {
  const state = made("span", { className: "hint state", role: "status" });
  const pick = made("button", { type: "button", className: "pick" }, made("span", { className: "name", textContent: name }), state);
  const progress = made("progress", { max: 1, value: 0, ariaLabel: `Progress of ${name}` });
  const remove = made("button", { type: "button", className: "quiet", textContent: "✕", ariaLabel: `Remove ${name}` });
  return { item: made("li", {}, pick, remove, progress), pick, state, progress, remove };
}

function size({ size: bytes }) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
