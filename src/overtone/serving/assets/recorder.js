/** A recording from the microphone, one channel, exactly as it comes: nothing is cleaned before the model hears it. */

import { Refusal } from "./api.js";
import * as wav from "./wav.js";

const RATE = 48_000;
export const MOST_SECONDS = 120;

export class Recorder {
  #blocks = [];
  #frames = 0;

  /** @param {(seconds: number, level: number) => void} onSound with each block: length so far, peak between 0 and 1 */
  constructor(onSound) {
    this.onSound = onSound;
  }

  async start() {
    if (!navigator.mediaDevices) throw new Refusal("A browser records only from https or from this machine itself.");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
    } catch (error) {
      const denied = error.name === "NotAllowedError";
      throw new Refusal(denied ? "The browser was not allowed to use the microphone." : "There is no microphone to record from.");
    }
    this.context = new AudioContext({ sampleRate: RATE });
    await this.context.audioWorklet.addModule(new URL("microphone.js", import.meta.url));
    const source = this.context.createMediaStreamSource(this.stream);
    this.node = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.#take(data);
    source.connect(this.node);
  }

  /** @returns {Promise<Blob>} a WAV file */
  async stop() {
    this.node.port.onmessage = null;
    for (const track of this.stream.getTracks()) track.stop();
    await this.context.close();
    if (!this.#frames) throw new Refusal("Nothing came from the microphone.");
    const samples = new Float32Array(this.#frames);
    let at = 0;
    for (const block of this.#blocks) {
      samples.set(block, at);
      at += block.length;
    }
    return wav.encode([samples], RATE);
  }

  #take(block) {
    this.#blocks.push(block);
    this.#frames += block.length;
    this.onSound(this.#frames / RATE, block.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0));
  }
}
