/** One thing at a time that takes a while: its progress, its end, and what is told when it fails. */

import { Refusal } from "./api.js";
import { announcedBytes } from "./wav.js";

const $ = (id) => document.getElementById(id);
const TICK_MS = 200;

/** A line below the progress bar. */
export function say(text) {
  $("progress-text").textContent = text;
}

/** A sentence about what is wrong, at the top of the page; empty: nothing is. */
export function notify(text) {
  $("notice").hidden = !text;
  $("notice-text").textContent = text;
}

export class Tasks {
  #running = null;
  #changed;
  #worded;

  /**
   * @param {() => void} changed called when a task begins or ends
   * @param {(sentence: string) => string} worded the server's sentences as they are shown
   */
  constructor(changed, worded) {
    this.#changed = changed;
    this.#worded = worded;
  }

  get busy() {
    return this.#running !== null;
  }

  cancel() {
    this.#running?.abort();
  }

  /**
   * Do this in place of what runs.
   * @param {(options: {signal: AbortSignal, onBytes: (bytes: number, first: Uint8Array) => void}) => Promise<void>} task
   */
  async run(title, task) {
    this.cancel();
    const own = (this.#running = new AbortController());
    const start = performance.now();
    let share = 0;
    const tick = () => {
      $("progress").value = share;
      const passed = `${((performance.now() - start) / 1000).toFixed(1)} s`;
      say(share ? `${title} ${Math.round(100 * share)} %, ${passed}` : `${title} ${passed}`);
    };
    const onBytes = (bytes, first) => {
      share = Math.min(1, bytes / announcedBytes(first)) || 0;
      tick();
    };
    const timer = setInterval(tick, TICK_MS);
    notify("");
    $("progress").value = 0;
    this.#changed();
    try {
      await task({ signal: own.signal, onBytes });
      if (this.#running === own) $("progress").value = 1;
    } catch (error) {
      if (this.#running === own) this.failed(error);
    } finally {
      clearInterval(timer);
      if (this.#running === own) this.#running = null;
      this.#changed();
    }
  }

  failed(error) {
    $("progress").value = 0;
    say(error.name === "AbortError" ? "Cancelled." : "");
    if (error.name === "AbortError") return;
    if (error instanceof Refusal) return void notify(this.#worded(error.message));
    console.error(error);
    notify(`The page cannot go on: ${error.message}.`);
  }
}
