/**
 * Playback of several versions of one recording, aligned to the sample: all of them sound all the time, and which one is
 * heard is a matter of gains.
 */

/** Seconds of a change from one version to another, of a start, and of a stop. */
export const FADE = 0.015;
/** Seconds between a command and what it does: a change begins at the same sample for all. */
const AHEAD = 0.01;

/**
 * A gain that moves along straight lines. Versions of one recording are correlated, so the sum of two lines keeps their
 * level; an equal-power fade would lift it by 3 dB midway.
 */
class Line {
  constructor(context, value) {
    this.node = context.createGain();
    this.node.gain.setValueAtTime(value, 0);
    this.from = this.to = value;
    this.start = 0;
  }

  /** The gain at a time, as scheduled: what `gain.value` says is up to a block of samples old. */
  at(time) {
    const share = Math.max(0, Math.min(1, (time - this.start) / FADE));
    return this.from + (this.to - this.from) * share;
  }

  /** Move to a value, beginning at a time that has not come yet. */
  move(value, time) {
    const now = this.at(time);
    const gain = this.node.gain;
    gain.cancelScheduledValues(time);
    // The line that was cut off goes on up to `time` as it was.
    gain.linearRampToValueAtTime(now, time);
    gain.linearRampToValueAtTime(value, time + FADE);
    Object.assign(this, { from: now, to: value, start: time });
  }
}

export class Player extends EventTarget {
  #context;
  #tracks = new Map();
  #master;
  #playing = null;
  #resting = 0;
  #heard = "";
  #gains = {};
  loop = false;

  /** @param {BaseAudioContext} context at the rate of the tracks */
  constructor(context) {
    super();
    this.#context = context;
    this.#master = new Line(context, 1);
    this.#master.node.connect(context.destination);
  }

  get heard() {
    return this.#heard;
  }

  get playing() {
    return this.#playing !== null;
  }

  get duration() {
    return Math.max(0, ...[...this.#tracks.values()].map(({ buffer }) => buffer.duration));
  }

  /** Seconds from the beginning. */
  get position() {
    if (!this.#playing) return this.#resting;
    const passed = Math.max(0, this.#context.currentTime - this.#playing.when);
    const at = this.#playing.offset + passed;
    return this.loop && this.duration ? at % this.duration : Math.min(at, this.duration);
  }

  /**
   * Add a version, or put another in its place; null takes it away.
   * @param {{rate: number, channels: Float32Array[]} | null} sound
   */
  load(name, sound) {
    const at = this.position;
    const resume = this.playing;
    this.pause();
    const old = this.#tracks.get(name)?.line.node;
    // Not before it has faded out.
    if (old) setTimeout(() => old.disconnect(), 1_000 * (AHEAD + 2 * FADE));
    this.#tracks.delete(name);
    if (sound && sound.channels[0].length) {
      const buffer = this.#context.createBuffer(sound.channels.length, sound.channels[0].length, sound.rate);
      sound.channels.forEach((samples, channel) => buffer.copyToChannel(samples, channel));
      const line = new Line(this.#context, name === this.#heard ? this.#level(name) : 0);
      line.node.connect(this.#master.node);
      this.#tracks.set(name, { buffer, line });
    }
    this.#resting = Math.min(at, this.duration);
    if (resume && this.#tracks.size) this.play();
    this.#changed();
  }

  has(name) {
    return this.#tracks.has(name);
  }

  /** Hear this version from now on. */
  choose(name) {
    if (!this.#tracks.has(name)) return;
    this.#heard = name;
    this.#fade();
    this.#changed();
  }

  /** @param {Record<string, number>} gains factors by version, 1 where none is given */
  balance(gains) {
    this.#gains = gains;
    this.#fade();
  }

  set volume(value) {
    this.#master.move(value, this.#context.currentTime + AHEAD);
  }

  play() {
    if (this.#playing || !this.#tracks.size) return;
    if (this.#resting >= this.duration - 0.005) this.#resting = 0;
    const when = this.#context.currentTime + AHEAD;
    const voices = [...this.#tracks.values()].map(({ buffer, line }) => {
      const source = new AudioBufferSourceNode(this.#context, { buffer, loop: this.loop });
      const envelope = new Line(this.#context, 0);
      source.connect(envelope.node).connect(line.node);
      envelope.move(1, when);
      source.start(when, Math.min(this.#resting, Math.max(0, buffer.duration - 1e-6)));
      return { source, envelope };
    });
    const playing = { when, offset: this.#resting, voices };
    this.#playing = playing;
    const sources = voices.map(({ source }) => source);
    const longest = sources.reduce((one, other) => (other.buffer.duration > one.buffer.duration ? other : one));
    longest.onended = () => this.#playing === playing && this.#end();
    this.#changed();
  }

  pause() {
    if (!this.#playing) return;
    this.#resting = this.position;
    this.#release();
    this.#changed();
  }

  toggle() {
    if (this.#playing) this.pause();
    else this.play();
  }

  seek(seconds) {
    const resume = this.playing;
    if (resume) this.pause();
    this.#resting = Math.max(0, Math.min(seconds, this.duration));
    if (resume) this.play();
    this.#changed();
  }

  /** Take over a change of `loop`. */
  setLoop(loop) {
    const at = this.position;
    this.loop = loop;
    if (this.playing) this.seek(at);
  }

  #level(name) {
    return this.#gains[name] ?? 1;
  }

  /** All gains to where they belong, from the same sample on. */
  #fade() {
    const time = this.#context.currentTime + AHEAD;
    for (const [name, { line }] of this.#tracks) line.move(name === this.#heard ? this.#level(name) : 0, time);
  }

  #end() {
    this.#playing = null;
    this.#resting = 0;
    this.#changed();
  }

  #release() {
    const { voices } = this.#playing;
    this.#playing = null;
    const time = this.#context.currentTime + AHEAD;
    for (const { source, envelope } of voices) {
      envelope.move(0, time);
      source.stop(time + FADE + AHEAD);
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
