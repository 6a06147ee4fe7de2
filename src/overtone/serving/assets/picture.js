/** Drawing: a spectrogram with its axes, and over it what moves. */

import { MAGMA } from "./colours.js";
import { BINS, levels } from "./spectrogram.js";

/** dB below a sine of full scale at the ends of the colours. */
export const DARKEST = -110;
export const BRIGHTEST = -20;
const TOP_HZ = 24_000;
const COLUMNS = 800;
/** Pixels that the axes take of the left and the bottom. */
const LEFT = 36;
const BOTTOM = 24;
const INK = "#b9b2cc";
const GROUND = "#0b0718";

const colour = (decibels) => Math.max(0, Math.min(255, Math.round((255 * (decibels - DARKEST)) / (BRIGHTEST - DARKEST))));

export class Picture extends EventTarget {
  #plot;
  #image;
  #overlay;
  #name;
  #levels = null;
  #pixels = null;
  #duration = 0;
  #marks = { position: 0, pointer: null, cutoff: null };
  #drawing = null;

  /** Events: `seek` (seconds), `point` ({seconds, hertz} or null). */
  constructor(figure, name) {
    super();
    this.#name = name;
    this.#plot = figure.querySelector(".plot");
    this.#image = figure.querySelector(".image");
    this.#overlay = figure.querySelector(".overlay");
    new ResizeObserver(() => this.#draw()).observe(this.#plot);
    const point = (event) => {
      const detail = this.#levels ? this.#place(event) : null;
      this.dispatchEvent(new CustomEvent("point", { detail }));
    };
    this.#overlay.addEventListener("pointermove", point);
    this.#overlay.addEventListener("pointerleave", () => this.dispatchEvent(new CustomEvent("point", { detail: null })));
    this.#overlay.addEventListener("click", (event) => {
      const place = this.#levels && this.#place(event);
      if (place) this.dispatchEvent(new CustomEvent("seek", { detail: place.seconds }));
    });
  }

  /** Show a sound, or nothing. The picture before stays until this one is drawn. */
  async show(sound) {
    this.#drawing?.abort();
    const drawing = (this.#drawing = new AbortController());
    if (!sound) {
      this.#levels = this.#pixels = null;
      this.#plot.dataset.filled = "no";
      this.#image.setAttribute("aria-label", `Spectrogram ${this.#name}: empty`);
      this.#draw();
      return;
    }
    let found;
    try {
      found = await levels(sound.channels, COLUMNS, drawing.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      throw error;
    }
    if (drawing.signal.aborted) return;
    this.#levels = found;
    this.#duration = sound.channels[0].length / sound.rate;
    this.#pixels = pixels(found);
    this.#plot.dataset.filled = "yes";
    const seconds = this.#duration.toFixed(1);
    this.#image.setAttribute("aria-label", `Spectrogram ${this.#name}: ${seconds} seconds, 0 to 24 kilohertz`);
    this.#draw();
  }

  /** Marks over the picture: playback in seconds, the pointer as {seconds, hertz} or null, the cutoff in Hz or null. */
  mark(marks) {
    Object.assign(this.#marks, marks);
    this.#drawOverlay();
  }

  /** dB at a time and frequency; NaN where there is nothing. */
  level({ seconds, hertz }) {
    if (!this.#levels || seconds > this.#duration) return NaN;
    const column = Math.min(COLUMNS - 1, Math.floor((seconds / this.#duration) * COLUMNS));
    return this.#levels[column * BINS + Math.min(BINS - 1, Math.round((hertz / TOP_HZ) * (BINS - 1)))];
  }

  #box() {
    const { clientWidth, clientHeight } = this.#plot;
    return { width: clientWidth, height: clientHeight, across: clientWidth - LEFT - 8, up: clientHeight - BOTTOM - 8 };
  }

  #place(event) {
    const { across, up } = this.#box();
    const share = (value, whole) => Math.max(0, Math.min(1, value / whole));
    return {
      seconds: share(event.offsetX - LEFT, across) * this.#duration,
      hertz: (1 - share(event.offsetY - 8, up)) * TOP_HZ,
    };
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

  #draw() {
    const pen = this.#pen(this.#image);
    const { width, height, across, up } = this.#box();
    pen.fillStyle = GROUND;
    pen.fillRect(0, 0, width, height);
    if (this.#pixels) {
      pen.imageSmoothingQuality = "high";
      pen.drawImage(this.#pixels, LEFT, 8, across, up);
    }
    this.#axes(pen);
    this.#drawOverlay();
  }

  #axes(pen) {
    const { across, up } = this.#box();
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = INK;
    pen.strokeStyle = "rgb(255 255 255 / 14%)";
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let each = 0; each <= 24; each += up < 190 ? 8 : 4) {
      const y = 8 + up * (1 - each / 24);
      pen.fillText(`${each}`, LEFT - 7, y);
      line(pen, LEFT - 3, y, LEFT, y);
    }
    pen.fillText("kHz", LEFT - 7, 8 + up + 13);
    if (!this.#duration || !this.#levels) return;
    pen.textBaseline = "top";
    const step = [0.5, 1, 2, 5, 10, 20, 60, 120, 300].find((each) => (each / this.#duration) * across > 46) ?? 600;
    for (let seconds = 0; seconds <= this.#duration; seconds += step) {
      const x = LEFT + (seconds / this.#duration) * across;
      pen.textAlign = seconds ? "center" : "left";
      if (x < LEFT + across - 8) pen.fillText(`${seconds} s`, x, 8 + up + 7);
      line(pen, x, 8 + up, x, 8 + up + 3);
    }
  }

  #drawOverlay() {
    const pen = this.#pen(this.#overlay);
    if (!this.#levels) return;
    const { across, up } = this.#box();
    const { position, pointer, cutoff } = this.#marks;
    const x = (seconds) => LEFT + Math.min(1, seconds / this.#duration) * across;
    const y = (hertz) => 8 + up * (1 - hertz / TOP_HZ);
    if (cutoff && cutoff < TOP_HZ) {
      pen.strokeStyle = pen.fillStyle = "rgb(255 255 255 / 62%)";
      pen.setLineDash([5, 5]);
      line(pen, LEFT, y(cutoff), LEFT + across, y(cutoff));
      pen.setLineDash([]);
      pen.font = "11px system-ui, sans-serif";
      pen.textAlign = "right";
      pen.textBaseline = cutoff > 22_000 ? "top" : "bottom";
      pen.fillText(`cutoff ${kilohertz(cutoff)}`, LEFT + across - 6, y(cutoff) + (cutoff > 22_000 ? 4 : -3));
    }
    if (pointer) {
      pen.strokeStyle = "rgb(255 255 255 / 45%)";
      line(pen, x(pointer.seconds), 8, x(pointer.seconds), 8 + up);
      line(pen, LEFT, y(pointer.hertz), LEFT + across, y(pointer.hertz));
    }
    pen.strokeStyle = "#fff";
    pen.lineWidth = 1.5;
    line(pen, x(position), 8, x(position), 8 + up);
  }
}

export function kilohertz(hertz) {
  return `${(hertz / 1000).toFixed(1)} kHz`;
}

/** Fill a canvas of one row with the colours. */
export function drawScale(canvas) {
  const pen = canvas.getContext("2d");
  const row = pen.createImageData(256, 1);
  for (let level = 0; level < 256; level++) row.data.set([...MAGMA.subarray(3 * level, 3 * level + 3), 255], 4 * level);
  pen.putImageData(row, 0, 0);
}

/** A canvas with a pixel for each column and bin, the lowest bin at the bottom. */
function pixels(found) {
  const canvas = Object.assign(document.createElement("canvas"), { width: COLUMNS, height: BINS });
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(COLUMNS, BINS);
  for (let column = 0; column < COLUMNS; column++) {
    for (let bin = 0; bin < BINS; bin++) {
      const from = 3 * colour(found[column * BINS + bin]);
      const to = 4 * ((BINS - 1 - bin) * COLUMNS + column);
      image.data[to] = MAGMA[from];
      image.data[to + 1] = MAGMA[from + 1];
      image.data[to + 2] = MAGMA[from + 2];
      image.data[to + 3] = 255;
    }
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}
