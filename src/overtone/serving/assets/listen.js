/** The panel to listen on: what was found, playback, what is heard, the two pictures, downloads. */

import { $, made } from "./dom.js";
import { Picture } from "./picture.js";

const NAMES = ["original", "before", "after"];
const ARROW_SECONDS = 2;

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

export class Listen {
  #player;
  #pictures;
  #recording = null;
  #secret = false;
  #frame = 0;

  constructor(player) {
    this.#player = player;
    this.#pictures = ["before", "after"].map((name) => new Picture($(`${name}-picture`).closest("figure")));
    for (const picture of this.#pictures) {
      picture.addEventListener("seek", ({ detail }) => player.seek(detail * player.duration));
    }
    player.addEventListener("change", () => this.#draw());
    $("play").onclick = () => player.toggle();
    $("seek").oninput = () => player.seek(Number($("seek").value));
    for (const input of document.getElementsByName("track")) input.onchange = () => this.choose(input.value);
    $("volume").oninput = () => (player.volume = $("volume").value ** 2);
    player.volume = $("volume").value ** 2;
  }

  /** Whether the page must not show what is heard. */
  set secret(value) {
    this.#secret = value;
    this.#draw();
  }

  /** Show a recording as it is now, or none. */
  show(recording) {
    const begun = this.#recording === recording && this.#player.has("after");
    this.#recording = recording;
    for (const name of NAMES) this.#player.load(name, recording?.urls[name]);
    if (!this.#player.has(this.#player.heard)) this.choose("before");
    if (recording?.urls.after && !begun) this.choose("after");
    $("listen").hidden = recording === null;
    $("listen-title").textContent = recording?.file.name ?? "";
    this.#describe(recording?.report);
    $("download").disabled = $("format").disabled = !recording?.urls.after;
    $("blind-start").hidden = !recording?.urls.after;
    for (const part of $("listen").querySelectorAll(".pictures, .downloads")) part.hidden = !recording?.urls.after;
    this.#draw();
    this.#drawPictures();
  }

  /** Hear a version, if it is there. */
  choose(name) {
    if (!this.#secret) this.#player.choose(name);
  }

  switchOver() {
    this.choose(this.#player.heard === "after" ? "before" : "after");
  }

  step(direction) {
    this.#player.seek(this.#player.position + direction * ARROW_SECONDS);
  }

  #describe(report) {
    const item = ({ name, evidence }) => made("li", {}, made("strong", { textContent: name }), `: ${evidence}`);
    const notes = (report?.notes ?? []).map((textContent) => made("li", { textContent }));
    $("found").replaceChildren(...(report?.findings ?? []).map(item), ...notes);
    $("found-title").textContent = $("found").childElementCount ? "What was found" : "Nothing wrong was found";
    $("found-title").hidden = !report;
    $("done").textContent = report?.done ?? "";
  }

  #drawPictures() {
    for (const [index, name] of ["before", "after"].entries()) {
      this.#pictures[index].show(this.#recording?.levels[name], this.#player.duration);
    }
  }

  #draw() {
    const player = this.#player;
    const { playing, heard, duration } = player;
    $("listen").dataset.heard = this.#secret ? "secret" : heard;
    $("play").disabled = $("seek").disabled = !player.has(heard);
    $("play").dataset.playing = playing ? "yes" : "no";
    $("play").ariaLabel = playing ? "Pause" : "Play";
    $("tracks").disabled = this.#secret;
    if (Number($("seek").max) !== (duration || 1)) {
      $("seek").max = duration || 1;
      this.#drawPictures();
    }
    for (const input of document.getElementsByName("track")) {
      input.disabled = !player.has(input.value);
      input.checked = input.value === heard && !this.#secret;
      if (input.value === "original") input.closest("label").hidden = !player.has("original");
    }
    this.#move();
  }

  /** Everything that goes along with playback, until it stops. */
  #move() {
    const { position, duration, playing } = this.#player;
    $("seek").value = position;
    $("seek").ariaValueText = `${position.toFixed(1)} of ${duration.toFixed(1)} seconds`;
    $("clock").textContent = `${clock(position)} / ${clock(duration)}`;
    for (const picture of this.#pictures) picture.mark(position);
    cancelAnimationFrame(this.#frame);
    if (playing) this.#frame = requestAnimationFrame(() => this.#move());
  }
}
