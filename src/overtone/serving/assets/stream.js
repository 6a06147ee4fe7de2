/** A live stream to the server and back, over `WebSocket /v1/live`. */

import { Refusal, sentence } from "./api.js";

export class Stream {
  #socket;
  #ended = false;
  /** Samples sent and got so far; both count from the same instant. */
  sent = 0;
  got = 0;
  /** Gets each block of enhanced samples. @type {(block: Float32Array) => void} */
  onblock = () => {};
  /** Called when the server ends it. @type {(error: Refusal) => void} */
  onfailure = () => {};

  /**
   * @param {object} hello the first message's fields, see `overtone.serving.live`
   * @returns {Promise<object>} the server's answer: its rate, its latency, what it does
   */
  open(hello) {
    this.#socket = new WebSocket(new URL("v1/live", document.baseURI.replace(/^http/, "ws")));
    this.#socket.binaryType = "arraybuffer";
    return new Promise((resolve, reject) => {
      const failed = (error) => {
        reject(error);
        if (!this.#ended) this.onfailure(error);
        this.#ended = true;
      };
      this.#socket.onopen = () => this.#socket.send(JSON.stringify({ type: "hello", format: "f32le", channels: 1, ...hello }));
      this.#socket.onclose = () => failed(new Refusal("The live connection ended."));
      this.#socket.onmessage = ({ data }) => {
        if (typeof data !== "string") return this.#take(new Float32Array(data));
        const message = JSON.parse(data);
        if (message.type === "ready") resolve(message);
        if (message.type === "error") failed(new Refusal(sentence(message.detail)));
        return undefined;
      };
    });
  }

  /** @param {Float32Array} block */
  send(block) {
    if (this.#socket.readyState !== WebSocket.OPEN || this.#ended) return;
    this.#socket.send(block);
    this.sent += block.length;
  }

  close() {
    this.#ended = true;
    this.#socket?.close();
  }

  #take(block) {
    this.got += block.length;
    this.onblock(block);
  }
}
