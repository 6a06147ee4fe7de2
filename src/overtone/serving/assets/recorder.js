/** A recording from the microphone as a WAV file. */

import { Refusal } from "./api.js";
import { openMicrophone } from "./microphone.js";

const RATE = 48_000;
const HEAD = 44;
export const MOST_SECONDS = 1800;

export class Recorder {
  #blocks = [];
  #frames = 0;
  #microphone = null;

  /** @param {(seconds: number, level: number) => void} onSound with each block: length so far, peak between 0 and 1 */
  constructor(onSound) {
    this.onSound = onSound;
  }

  async start() {
    this.#microphone = await openMicrophone(new AudioContext({ sampleRate: RATE }));
    this.#microphone.onblock = (block) => this.#take(block);
  }

  /** @returns {Promise<File>} 16 bit, one channel, exactly as it came */
  async stop() {
    await this.#microphone.close();
    if (!this.#frames) throw new Refusal("Nothing came from the microphone.");
    const name = `Recording ${new Date().toTimeString().slice(0, 5).replace(":", ".")}.wav`;
    return new File([head(this.#frames), ...this.#blocks], name, { type: "audio/wav" });
  }

  #take(block) {
    this.#blocks.push(Int16Array.from(block, (value) => Math.round(Math.max(-1, Math.min(32767 / 32768, value)) * 32768)));
    this.#frames += block.length;
    this.onSound(this.#frames / RATE, block.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0));
  }
}

/** Of a WAV file of 16 bit and one channel. */
function head(frames) {
  const view = new DataView(new ArrayBuffer(HEAD));
  const write = (at, text) => [...text].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, HEAD - 8 + 2 * frames, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * frames, true);
  return view;
}
