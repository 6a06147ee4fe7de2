/** The microphone, as it is: nothing is cleaned before the model hears it. */

import { Refusal } from "./api.js";

/**
 * Open the microphone in an audio context.
 * @param {AudioContext} context closed with it
 * @returns {Promise<{source: AudioNode, tap: (node: AudioNode) => void, onblock: (block: Float32Array) => void, close: () => Promise<void>}>}
 *   `onblock` gets 10 ms at a time of what comes from the microphone, or from the node that is tapped instead
 */
export async function openMicrophone(context) {
  if (!navigator.mediaDevices) throw new Refusal("A browser opens the microphone only for https or for this machine itself.");
  const stream = await askFor({ channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false });
  await context.audioWorklet.addModule(new URL("worklets.js", import.meta.url));
  const source = context.createMediaStreamSource(stream);
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  let tapped = source;
  source.connect(capture);
  const opened = {
    source,
    onblock: () => {},
    tap(node) {
      tapped.disconnect(capture);
      node.connect(capture);
      tapped = node;
    },
    async close() {
      capture.port.onmessage = null;
      for (const track of stream.getTracks()) track.stop();
      await context.close();
    },
  };
  capture.port.onmessage = ({ data }) => opened.onblock(data);
  return opened;
}

async function askFor(audio) {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    const denied = error.name === "NotAllowedError";
    throw new Refusal(denied ? "The browser was not allowed to use the microphone." : "There is no microphone.");
  }
}
