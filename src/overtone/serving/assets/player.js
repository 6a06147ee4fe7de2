/** Playback of several versions of one recording in step; which one is heard is a matter of gains. */

/** Seconds of a change from one version to another. */
const FADE = 0.015;
/** Seconds by which a version that is not heard may be off, and between two looks at it. */
const DRIFT = 0.02;
const LOOK = 0.25;

export class Player extends EventTarget {
  #context;
  #tracks = new Map();
  #master;
  #timer = null;
  heard = "before";

  /** Events: `change`. */
  constructor() {
    super();
    this.#context = new AudioContext();
    this.#master = this.#context.createGain();
    this.#master.connect(this.#context.destination);
  }

  /** Put a version in place, or take it away. The browser decodes it as it plays. @param {string | undefined} url */
  load(name, url) {
    const track = this.#tracks.get(name);
    if (track?.url === url) return;
    this.pause();
    if (track) {
      track.element.removeAttribute("src");
      track.source.disconnect();
      this.#tracks.delete(name);
    }
    if (url) this.#tracks.set(name, this.#track(url));
    this.#changed();
  }

  #track(url) {
    const element = new Audio(url);
    const source = this.#context.createMediaElementSource(element);
    const gain = this.#context.createGain();
    gain.gain.value = 0;
    source.connect(gain).connect(this.#master);
    element.onloadedmetadata = () => this.#changed();
    element.onended = () => this.#ended(element);
    element.onerror = () => this.#changed();
    return { url, element, source, gain };
  }

  /** Whether a version can be heard. */
  has(name) {
    const track = this.#tracks.get(name);
    return track !== undefined && track.element.error === null;
  }

  get playing() {
    return this.#timer !== null;
  }

  /** Seconds from the beginning. */
  get position() {
    return this.#element?.currentTime ?? 0;
  }

  get duration() {
    const found = this.#element?.duration;
    return Number.isFinite(found) ? found : 0;
  }

  set volume(value) {
    this.#master.gain.value = value;
  }

  /** Hear this version from now on. */
  choose(name) {
    if (!this.has(name)) return;
    const position = this.position;
    const gone = name !== this.heard;
    this.heard = name;
    if (gone && Math.abs(this.#element.currentTime - position) > DRIFT) this.#element.currentTime = position;
    this.#fade();
    this.#changed();
  }

  async play() {
    if (this.playing || !this.has(this.heard)) return;
    this.#timer = setInterval(() => this.#keepInStep(), 1000 * LOOK);
    this.#fade();
    this.#changed();
    // Browsers start no sound before the user did something.
    await this.#context.resume();
    if (!this.playing) return;
    if (this.position >= this.duration - 0.05) this.seek(0);
    await Promise.allSettled([...this.#tracks.values()].map(({ element }) => element.play()));
  }

  pause() {
    clearInterval(this.#timer);
    this.#timer = null;
    for (const { element } of this.#tracks.values()) element.pause();
    this.#changed();
  }

  toggle() {
    return this.playing ? this.pause() : this.play();
  }

  seek(seconds) {
    const target = Math.max(0, Math.min(seconds, this.duration));
    for (const { element } of this.#tracks.values()) element.currentTime = target;
    this.#changed();
  }

  get #element() {
    return this.#tracks.get(this.heard)?.element;
  }

  #keepInStep() {
    for (const { element } of this.#tracks.values()) {
      if (element === this.#element || element.ended || element.error) continue;
      if (Math.abs(element.currentTime - this.position) > DRIFT) element.currentTime = this.position;
    }
  }

  #ended(element) {
    if (element !== this.#element) return;
    this.pause();
    this.seek(0);
  }

  #fade() {
    const now = this.#context.currentTime;
    for (const [name, { gain }] of this.#tracks) {
      gain.gain.setTargetAtTime(name === this.heard ? 1 : 0, now, FADE / 3);
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
