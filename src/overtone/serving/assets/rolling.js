/** A spectrogram that rolls along with what sounds. */

import { MAGMA } from "./colours.js";

/** Columns of the picture: ten seconds. */
const COLUMNS = 500;
const COLUMN_MS = 20;
const DARKEST = -110;
const BRIGHTEST = -20;

export class Rolling {
  #analyser;
  #levels;
  #pen;
  #column;
  #drawn = performance.now();

  /** @param {HTMLCanvasElement} canvas @param {AudioNode} node what is shown */
  constructor(canvas, node) {
    this.#analyser = new AnalyserNode(node.context, {
      fftSize: 2048,
      smoothingTimeConstant: 0,
      minDecibels: DARKEST,
      maxDecibels: BRIGHTEST,
    });
    node.connect(this.#analyser);
    this.#levels = new Uint8Array(this.#analyser.frequencyBinCount);
    Object.assign(canvas, { width: COLUMNS, height: this.#levels.length });
    this.#pen = canvas.getContext("2d", { willReadFrequently: true });
    this.#pen.fillStyle = "#000004";
    this.#pen.fillRect(0, 0, canvas.width, canvas.height);
    this.#column = this.#pen.createImageData(1, this.#levels.length);
  }

  /** Add what has sounded since the last time. */
  roll() {
    const columns = Math.min(COLUMNS, Math.floor((performance.now() - this.#drawn) / COLUMN_MS));
    if (!columns) return;
    this.#drawn += columns * COLUMN_MS;
    this.#analyser.getByteFrequencyData(this.#levels);
    const top = this.#levels.length - 1;
    this.#levels.forEach((level, bin) => {
      this.#column.data.set([MAGMA[3 * level], MAGMA[3 * level + 1], MAGMA[3 * level + 2], 255], 4 * (top - bin));
    });
    this.#pen.drawImage(this.#pen.canvas, -columns, 0);
    for (let back = 1; back <= columns; back++) this.#pen.putImageData(this.#column, COLUMNS - back, 0);
  }
}
