/** Levels of a signal over time and frequency. */

/** Samples of a window: 43 ms and steps of 23 Hz at 48 kHz. */
export const SIZE = 2048;
export const BINS = SIZE / 2 + 1;
/** dB below a sine of full scale; what is softer counts as silence. */
export const FLOOR = -140;
/** Windows whose powers a column averages at most, however much time it stands for. */
const MOST_WINDOWS = 4;
/** Milliseconds of work between two looks at the user. */
const SLICE = 12;

/**
 * Level in dB of each bin of each column, the mean over channels; a sine of full scale has 0 dB.
 * @param {Float32Array[]} channels
 * @param {number} columns equal stretches of time
 * @param {AbortSignal} signal ends it early
 * @returns {Promise<Float32Array>} column after column, lowest bin first
 */
export async function levels(channels, columns, signal) {
  const frames = channels[0].length;
  const transform = new Transform(SIZE);
  const out = new Float32Array(columns * BINS);
  const width = frames / columns;
  const windows = Math.max(1, Math.min(MOST_WINDOWS, Math.round(width / (SIZE / 2))));
  let pause = performance.now() + SLICE;
  for (let column = 0; column < columns; column++) {
    const power = new Float64Array(BINS);
    for (let window = 0; window < windows; window++) {
      const middle = (column + (window + 0.5) / windows) * width;
      for (const samples of channels) transform.addPower(samples, Math.round(middle - SIZE / 2), power);
    }
    const share = 1 / (windows * channels.length);
    for (let bin = 0; bin < BINS; bin++) {
      out[column * BINS + bin] = Math.max(FLOOR, 10 * Math.log10(power[bin] * share + 1e-30));
    }
    if (performance.now() > pause) {
      await new Promise((resolve) => setTimeout(resolve));
      signal?.throwIfAborted();
      pause = performance.now() + SLICE;
    }
  }
  return out;
}

/** A radix-2 Fourier transform of real windows (Hann). */
export class Transform {
  constructor(size) {
    this.size = size;
    this.window = Float64Array.from({ length: size }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / size));
    this.cos = Float64Array.from({ length: size / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / size));
    this.sin = Float64Array.from({ length: size / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / size));
    const bits = Math.log2(size);
    this.order = Uint32Array.from({ length: size }, (_, n) => {
      let turned = 0;
      for (let bit = 0; bit < bits; bit++) turned |= ((n >> bit) & 1) << (bits - 1 - bit);
      return turned;
    });
    this.real = new Float64Array(size);
    this.imaginary = new Float64Array(size);
    // A sine of full scale, whose window sums to size / 2, has a magnitude of size / 4.
    this.scale = (4 / size) ** 2;
  }

  /** Add the power of each bin of the window that begins at `start`; outside the signal there is silence. */
  addPower(samples, start, power) {
    const { size, real, imaginary, scale } = this;
    for (let n = 0; n < size; n++) {
      const at = this.order[n];
      real[n] = (samples[start + at] ?? 0) * this.window[at];
    }
    imaginary.fill(0);
    this.#butterflies();
    for (let bin = 0; bin <= size / 2; bin++) power[bin] += (real[bin] ** 2 + imaginary[bin] ** 2) * scale;
  }

  #butterflies() {
    const { size, real, imaginary, cos, sin } = this;
    for (let half = 1; half < size; half *= 2) {
      const stride = size / (2 * half);
      for (let first = 0; first < size; first += 2 * half) {
        for (let k = 0; k < half; k++) {
          const [one, other] = [first + k, first + k + half];
          const [c, s] = [cos[k * stride], sin[k * stride]];
          const x = real[other] * c - imaginary[other] * s;
          const y = real[other] * s + imaginary[other] * c;
          real[other] = real[one] - x;
          imaginary[other] = imaginary[one] - y;
          real[one] += x;
          imaginary[one] += y;
        }
      }
    }
  }
}
