/** The blind test's panel. While it runs, nothing on the page shows which version is heard. */

import { $ } from "./dom.js";
import { chance, Test } from "./trial.js";

const TRACKS = { a: "before", b: "after" };
const TRIALS = 10;

export class Blind extends EventTarget {
  #player;
  #test = null;
  #start = 0;

  /** Events: `change`, when a test begins or ends. */
  constructor(player) {
    super();
    this.#player = player;
    $("blind-start").onclick = () => this.#begin();
    $("blind-stop").onclick = () => this.close();
    $("answer-a").onclick = () => this.answer("a");
    $("answer-b").onclick = () => this.answer("b");
    for (const input of document.getElementsByName("blind")) input.onchange = () => this.listen(input.value);
  }

  get running() {
    return this.#test !== null && !this.#test.done;
  }

  close() {
    this.#test = null;
    this.#show();
  }

  /** Hear A, B or X, each from the same place on: how a change sounds would tell whether there is one. */
  listen(letter) {
    document.querySelector(`[name="blind"][value="${letter}"]`).checked = true;
    this.#player.pause();
    this.#player.choose(TRACKS[letter === "x" ? this.#test.x : letter]);
    this.#player.seek(this.#start);
    this.#player.play();
  }

  /** What the listener takes X for. */
  answer(letter) {
    this.#test.answer(letter);
    this.#show();
    if (this.running) this.listen("x");
    else this.#player.pause();
  }

  #begin() {
    this.#start = this.#player.position;
    this.#test = new Test(TRIALS);
    this.#show();
    this.listen("x");
    $("answer-a").focus();
  }

  #show() {
    const test = this.#test;
    $("blind").hidden = test === null;
    $("blind-trial").hidden = !this.running;
    $("blind-count").textContent = this.running ? `Trial ${test.answered + 1} of ${test.count}.` : "";
    $("blind-result").textContent = test?.done ? resultOf(test) : "";
    if (test?.done) $("blind-stop").focus();
    this.dispatchEvent(new Event("change"));
  }
}

/** A result as a sentence. */
function resultOf({ right, count }) {
  const p = chance(right, count);
  const meaning = p < 0.05 ? "You very likely hear a difference." : "This does not show that you hear a difference.";
  return `${right} of ${count} right; by guessing, so many or more have a probability of ${p.toFixed(3)}. ${meaning}`;
}
