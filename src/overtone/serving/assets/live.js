/** The live panel: the microphone in, the enhanced sound out in the headphones, both rolling by. */

import { $ } from "./dom.js";
import { openMicrophone } from "./microphone.js";
import { Rolling } from "./rolling.js";
import { Stream } from "./stream.js";

const RATE = 48_000;
/** Filters in a row that make an edge of 96 dB an octave: a Butterworth filter's quality factors, order 16. */
const EDGE = Array.from({ length: 8 }, (_, k) => 1 / (2 * Math.cos(((2 * k + 1) * Math.PI) / 32)));

export class Live extends EventTarget {
  #api;
  #model;
  #running = null;
  #frame = 0;

  /** Events: `failed` (Error). @param {() => string} model the reference of the model that enhances */
  constructor(api, model) {
    super();
    this.#api = api;
    this.#model = model;
    $("live-start").onclick = () => (this.#running ? this.stop() : this.#start());
    for (const input of document.getElementsByName("live")) input.onchange = () => this.#route();
    for (const id of ["live-band", "live-restore"]) $(id).onchange = () => this.#running && this.#start();
  }

  async #start() {
    this.stop();
    const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    const running = (this.#running = { context, stream: new Stream() });
    this.#show("Starting…");
    try {
      await this.#connect(running);
      if (this.#running !== running) return;
      this.#route();
      this.#roll();
    } catch (error) {
      this.#failed(running, error);
    }
  }

  async #connect(running) {
    const { context, stream } = running;
    running.microphone = await openMicrophone(context);
    if (this.#running !== running) return running.microphone.close();
    const cutoff = Number($("live-band").value);
    const before = narrowed(running.microphone.source, cutoff);
    running.microphone.tap(before);
    const playback = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    playback.port.onmessage = ({ data }) => (running.queue = data);
    running.gains = { before: context.createGain(), after: context.createGain() };
    before.connect(running.gains.before).connect(context.destination);
    playback.connect(running.gains.after).connect(context.destination);
    running.pictures = [new Rolling($("live-before"), before), new Rolling($("live-after"), playback)];
    stream.onblock = (block) => playback.port.postMessage(block, [block.buffer]);
    stream.onfailure = (error) => this.#failed(running, error);
    const mode = $("live-restore").checked ? "restore" : "extend";
    running.facts = await stream.open({ rate: RATE, mode, cutoff_hz: cutoff, model: this.#model() || null, key: this.#api.key });
    running.microphone.onblock = (block) => stream.send(block);
    return undefined;
  }

  /** End it, if it runs. */
  stop() {
    const running = this.#running;
    this.#running = null;
    cancelAnimationFrame(this.#frame);
    running?.stream.close();
    if (running?.microphone) running.microphone.close();
    else running?.context.close();
    this.#show("");
  }

  #failed(running, error) {
    if (this.#running !== running) return;
    this.stop();
    this.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }

  /** What is heard. */
  #route() {
    const heard = document.querySelector('[name="live"]:checked').value;
    for (const [name, { gain }] of Object.entries(this.#running?.gains ?? {})) gain.value = name === heard ? 1 : 0;
  }

  #roll() {
    const { pictures, context, stream, facts, queue } = this.#running;
    for (const picture of pictures) picture.roll();
    if (queue) {
      const device = 1000 * (context.baseLatency + (context.outputLatency || 0));
      // What left and has not come back is in the network, in the model, or waits to be computed.
      const away = (1000 * (stream.sent - stream.got)) / RATE;
      const total = Math.round(away + (1000 * queue.waiting) / RATE + device);
      const gaps = queue.gaps ? `, ${queue.gaps} ${queue.gaps === 1 ? "gap" : "gaps"}` : "";
      this.#show(`Latency ${total} ms, of which the model ${facts.latency_ms.toFixed(0)} ms${gaps}`);
    }
    this.#frame = requestAnimationFrame(() => this.#roll());
  }

  #show(text) {
    // A screen reader would read out every change of a figure: it gets the first.
    $("live-text").ariaLive = text.startsWith("Latency") && $("live-text").textContent.startsWith("Latency") ? "off" : "polite";
    if ($("live-text").textContent !== text) $("live-text").textContent = text;
    $("live-start").textContent = this.#running ? "Stop" : "Start";
    $("live-hear").disabled = !this.#running;
  }
}

/** A node's sound up to a frequency in Hz. */
function narrowed(source, cutoff) {
  if (cutoff >= RATE / 2) return source;
  // Where the band ends for the network, little must be left.
  const frequency = 0.9 * cutoff;
  return EDGE.reduce((node, q) => {
    const filter = new BiquadFilterNode(node.context, { type: "lowpass", frequency, Q: 20 * Math.log10(q) });
    return node.connect(filter);
  }, source);
}
