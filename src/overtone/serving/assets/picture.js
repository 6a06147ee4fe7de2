/** A spectrogram with its axes, and over it the cursor. */

import { MAGMA } from "./colours.js";

/** As the server sends levels: a byte for each, column after column, the lowest band first. */
const COLUMNS = 800;
const BANDS = 256;
const TOP_KHZ = 24;
/** Pixels that the axes take. */
const LEFT = 34;
const BOTTOM = 22;
const TOP = 6;
const RIGHT = 6;

export class Picture extends EventTarget {
  #name;
  #plot;
  #image;
  #overlay;
  #pixels = null;
  #duration = 0;
  #position = 0;

  /** Events: `seek` (a share of the duration), when it is clicked. */
  constructor(figure) {
    super();
    this.#name = figure.dataset.track;
    this.#plot = figure.querySelector(".plot");
    this.#image = figure.querySelector(".image");
    this.#overlay = figure.querySelector(".overlay");
    new ResizeObserver(() => this.#draw()).observe(this.#plot);
    this.#overlay.addEventListener("click", ({ offsetX }) => {
      const share = Math.max(0, Math.min(1, (offsetX - LEFT) / this.#box().across));
      if (this.#pixels) this.dispatchEvent(new CustomEvent("seek", { detail: share }));
    });
  }

  /** @param {Uint8Array | undefined} levels none: nothing is shown @param {number} duration seconds */
  show(levels, duration) {
    this.#pixels = levels ? pixels(levels) : null;
    this.#duration = duration;
    this.#plot.dataset.filled = levels ? "yes" : "no";
    const contents = levels ? `${duration.toFixed(1)} seconds, 0 to ${TOP_KHZ} kilohertz` : "empty";
    this.#image.setAttribute("aria-label", `Spectrogram ${this.#name}: ${contents}`);
    this.#draw();
  }

  /** Move the cursor. @param {number} position seconds */
  mark(position) {
    this.#position = position;
    const pen = this.#pen(this.#overlay);
    if (!this.#pixels || !this.#duration) return;
    const { across, up } = this.#box();
    pen.fillStyle = "#fff";
    pen.fillRect(LEFT + Math.min(1, position / this.#duration) * across - 0.75, TOP, 1.5, up);
  }

  #box() {
    const { clientWidth: width, clientHeight: height } = this.#plot;
    return { width, height, across: width - LEFT - RIGHT, up: height - BOTTOM - TOP };
  }

  #draw() {
    const pen = this.#pen(this.#image);
    const { width, height, across, up } = this.#box();
    pen.fillStyle = "#0b0718";
    pen.fillRect(0, 0, width, height);
    if (this.#pixels) pen.drawImage(this.#pixels, LEFT, TOP, across, up);
    this.#axes(pen);
    this.mark(this.#position);
  }

  #axes(pen) {
    const { across, up } = this.#box();
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = "#cbc5da";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let each = 0; each <= TOP_KHZ; each += 8) pen.fillText(`${each}`, LEFT - 6, TOP + up * (1 - each / TOP_KHZ));
    pen.fillText("kHz", LEFT - 6, TOP + up + 13);
    if (!this.#pixels || !this.#duration) return;
    const step = [0.5, 1, 2, 5, 10, 20, 60, 120, 300].find((each) => (each / this.#duration) * across > 46) ?? 600;
    pen.textAlign = "center";
    for (let seconds = step; seconds < this.#duration * 0.97; seconds += step) {
      pen.fillText(`${seconds} s`, LEFT + (seconds / this.#duration) * across, TOP + up + 13);
    }
  }

  /** A canvas's context in CSS pixels, as sharp as the screen, wiped. */
  #pen(canvas) {
    const { width, height } = this.#box();
    const scale = window.devicePixelRatio || 1;
    const size = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
    if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }
}

/** A canvas with a pixel for each level, the lowest band at the bottom. */
function pixels(levels) {
  const canvas = new OffscreenCanvas(COLUMNS, BANDS);
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(COLUMNS, BANDS);
  for (let column = 0; column < COLUMNS; column++) {
    for (let band = 0; band < BANDS; band++) {
      const from = 3 * levels[column * BANDS + band];
      image.data.set([MAGMA[from], MAGMA[from + 1], MAGMA[from + 2], 255], 4 * ((BANDS - 1 - band) * COLUMNS + column));
    }
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}
