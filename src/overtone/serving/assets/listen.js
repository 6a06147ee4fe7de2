/** The panel to listen and look on: playback, what is heard, the two pictures and the cursor that they share. */

import { loudness, matching } from "./loudness.js";
import { kilohertz, Picture } from "./picture.js";

const $ = (id) => document.getElementById(id);
const NAMES = ["before", "after", "original"];
const ARROW_SECONDS = 0.5;

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
const decibels = (value) => (Number.isFinite(value) ? `${value.toFixed(0).replace("-", "−")} dB` : "–");

export class Listen {
  #context;
  #player;
  #pictures;
  #levels = {};
  #secret = false;

  constructor(context, player) {
    this.#context = context;
    this.#player = player;
    this.#pictures = ["before", "after"].map((name) => new Picture($(`${name}-picture`).closest("figure"), name));
    for (const picture of this.#pictures) {
      picture.addEventListener("seek", ({ detail }) => this.#player.seek(detail));
      picture.addEventListener("point", ({ detail }) => this.#point(detail));
    }
    player.addEventListener("change", () => this.#show());
    this.#connect();
  }

  /** Whether the page must not tell what is heard. */
  set secret(value) {
    this.#secret = value;
    this.#show();
  }

  /** The sound by this name, or none. @returns {Promise<void>} when it is drawn */
  load(name, sound) {
    this.#player.load(name, sound);
    if (sound) this.#levels[name] = loudness(sound.channels);
    else delete this.#levels[name];
    if (!this.#player.has(this.#player.heard)) this.#player.choose("before");
    this.#balance();
    this.#show();
    return this.#pictures[NAMES.indexOf(name)]?.show(sound) ?? Promise.resolve();
  }

  /** Hear a version, if it is there. */
  choose(name) {
    if (!this.#secret && this.#player.has(name)) this.#player.choose(name);
  }

  /** Draw a line where the known band ends, in Hz; null: none. */
  markCutoff(hertz) {
    for (const picture of this.#pictures) picture.mark({ cutoff: hertz });
  }

  async toggle() {
    // Browsers start no sound before the user did something.
    await this.#context.resume();
    this.#player.toggle();
  }

  switchOver() {
    this.choose(this.#player.heard === "after" ? "before" : "after");
  }

  step(direction) {
    this.#player.seek(this.#player.position + direction * ARROW_SECONDS);
  }

  #connect() {
    $("play").onclick = () => this.toggle();
    $("seek").oninput = () => this.#player.seek(Number($("seek").value));
    for (const input of document.getElementsByName("track")) input.onchange = () => this.choose(input.value);
    $("match").onchange = () => this.#balance();
    $("loop").onchange = () => this.#player.setLoop($("loop").checked);
    $("volume").oninput = () => (this.#player.volume = $("volume").value ** 2);
    this.#player.volume = $("volume").value ** 2;
  }

  #balance() {
    const gains = $("match").checked ? matching(this.#levels) : {};
    this.#player.balance(gains);
    const told = Object.entries(gains)
      .map(([name, gain]) => [name, 20 * Math.log10(gain)])
      .filter(([, gain]) => gain <= -0.05)
      .map(([name, gain]) => `${name} −${(-gain).toFixed(1)} dB`);
    $("match-text").textContent = told.join(", ");
  }

  #show() {
    const { playing, heard, duration } = this.#player;
    const nothing = !this.#player.has("before");
    $("listen").dataset.heard = this.#secret ? "secret" : heard;
    $("play").disabled = $("seek").disabled = nothing;
    $("play").dataset.playing = playing ? "yes" : "no";
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    $("tracks").disabled = nothing || this.#secret;
    $("seek").max = duration || 1;
    for (const input of document.getElementsByName("track")) {
      input.disabled = !this.#player.has(input.value);
      input.checked = input.value === heard && !this.#secret;
    }
    for (const figure of document.querySelectorAll(".picture")) {
      figure.dataset.heard = !this.#secret && playing && figure.dataset.track === heard ? "yes" : "no";
    }
    this.#move();
  }

  /** Everything that goes along with playback, until it stops. */
  #move() {
    const { position, duration, playing } = this.#player;
    $("seek").value = position;
    $("seek").setAttribute("aria-valuetext", `${position.toFixed(1)} of ${duration.toFixed(1)} seconds`);
    $("clock").textContent = `${clock(position)} / ${clock(duration)}`;
    for (const picture of this.#pictures) picture.mark({ position });
    cancelAnimationFrame(this.frame);
    if (playing) this.frame = requestAnimationFrame(() => this.#move());
  }

  #point(place) {
    for (const picture of this.#pictures) picture.mark({ pointer: place });
    const [before, after] = this.#pictures.map((picture) => (place ? picture.level(place) : NaN));
    $("readout").textContent = place
      ? `${place.seconds.toFixed(2)} s, ${kilohertz(place.hertz)}: before ${decibels(before)}, after ${decibels(after)}`
      : "";
  }
}
