/** The blind test's panel. While it runs, nothing on the page tells which version sounds. */

import { Test } from "./trial.js";

const $ = (id) => document.getElementById(id);
const TRACKS = { a: "before", b: "after" };

export class Blind extends EventTarget {
  #player;
  #facts;
  #test = null;

  /** Events: `change`, when a test begins or ends. @param {() => object} facts what is compared, for the saved result */
  constructor(player, facts) {
    super();
    this.#player = player;
    this.#facts = facts;
    $("blind-start").onclick = $("blind-again").onclick = () => this.#start();
    $("blind-stop").onclick = () => this.reset();
    $("blind-save").onclick = () => this.#save();
    $("answer-a").onclick = () => this.answer("a");
    $("answer-b").onclick = () => this.answer("b");
    for (const input of document.getElementsByName("blind")) input.onchange = () => this.listen(input.value);
  }

  get running() {
    return this.#test !== null && !this.#test.done;
  }

  /** Whether there are two versions to compare. */
  set possible(value) {
    $("blind-start").disabled = $("blind-again").disabled = !value;
  }

  /** Forget the test. */
  reset() {
    this.#test = null;
    this.#show();
  }

  /** Hear A, B or X. */
  listen(letter) {
    if (!this.running) return;
    document.querySelector(`[name="blind"][value="${letter}"]`).checked = true;
    this.#player.choose(TRACKS[letter === "x" ? this.#test.x : letter]);
    if (!this.#player.playing) this.#player.play();
  }

  /** What the listener takes X for. */
  answer(letter) {
    if (!this.running) return;
    this.#test.answer(letter);
    this.#show();
    if (this.running) this.listen("x");
  }

  #start() {
    this.#test = new Test(Number($("trials").value));
    this.#show();
    this.listen("x");
    $("answer-a").focus();
  }

  #show() {
    const test = this.#test;
    const state = test === null ? "idle" : test.done ? "done" : "running";
    $("blind").dataset.state = state;
    $("blind-intro").hidden = state !== "idle";
    $("blind-trial").hidden = state !== "running";
    $("blind-after").hidden = state !== "done";
    $("blind-count").textContent = state === "running" ? `Trial ${test.answers.length + 1} of ${test.count}` : "";
    $("blind-result").replaceChildren(...(state === "done" ? told(test) : []));
    if (state === "done") $("blind-again").focus();
    this.dispatchEvent(new Event("change"));
  }

  #save() {
    const { count, right, chance, answers } = this.#test;
    const result = { test: "ABX", a: TRACKS.a, b: TRACKS.b, ...this.#facts(), trials: count, right, p_value: chance, answers };
    this.dispatchEvent(new CustomEvent("save", { detail: JSON.stringify(result, null, 2) }));
  }
}

/** A result in words. */
function told({ right, count, chance }) {
  const score = document.createElement("strong");
  score.textContent = `${right} of ${count} right`;
  const text = document.createElement("p");
  const p = chance < 0.001 ? "less than 0.001" : chance.toFixed(3);
  const heard = chance < 0.05 ? "You very likely hear a difference." : "This does not show that you hear a difference.";
  text.textContent = `By guessing alone, so many or more come with probability ${p}. ${heard}`;
  return [score, text];
}
