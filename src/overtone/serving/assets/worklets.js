/** Runs in the audio thread: sound from the page's nodes to the page, and from the page to its nodes. */

/** Samples handed on at a time: 10 ms at 48 kHz. */
const BLOCK = 480;
/** Samples that wait before playback begins: 30 ms, and half as many more after each gap. */
const LEAST_WAIT = 1440;
const MOST_WAIT = 9600;

/** Hands on what comes in. */
class Capture extends AudioWorkletProcessor {
  #block = new Float32Array(BLOCK);
  #filled = 0;

  process([[samples]]) {
    for (const sample of samples ?? []) {
      this.#block[this.#filled++] = sample;
      if (this.#filled === BLOCK) {
        this.port.postMessage(this.#block.slice());
        this.#filled = 0;
      }
    }
    return true;
  }
}

/** Plays blocks as they come; reports how many samples wait, and how often there were none. */
class Playback extends AudioWorkletProcessor {
  #blocks = [];
  #waiting = 0;
  #at = 0;
  #playing = false;
  #gaps = 0;
  #wait = LEAST_WAIT;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.#take(data);
  }

  #take(block) {
    this.#blocks.push(block);
    this.#waiting += block.length;
    // The oldest are dropped, to stay near the present.
    while (this.#waiting > 2 * this.#wait + BLOCK && this.#blocks.length > 1) {
      this.#waiting -= this.#blocks.shift().length - this.#at;
      this.#at = 0;
    }
    this.port.postMessage({ waiting: this.#waiting, gaps: this.#gaps });
  }

  process(_, [[out]]) {
    this.#playing ||= this.#waiting > this.#wait;
    if (!this.#playing) return true;
    for (let index = 0; index < out.length && this.#blocks.length; index++) {
      out[index] = this.#blocks[0][this.#at++];
      this.#waiting--;
      if (this.#at === this.#blocks[0].length) {
        this.#blocks.shift();
        this.#at = 0;
      }
    }
    if (!this.#blocks.length) {
      this.#playing = false;
      this.#gaps++;
      this.#wait = Math.min(MOST_WAIT, 1.5 * this.#wait);
    }
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("playback", Playback);
