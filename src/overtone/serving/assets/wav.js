/** WAV files: exact samples both ways, where a browser's own decoder may resample or shift them. */

const HEAD = 44;

/**
 * Samples of a WAV file of 16, 24 or 32 bit integers, or of floats.
 * @param {ArrayBuffer} buffer
 * @returns {{rate: number, channels: Float32Array[]}} full scale 1.0
 */
export function decode(buffer) {
  const view = new DataView(buffer);
  const { format, count, rate, bits, start, end } = head(view);
  const bytes = bits / 8;
  const frames = Math.floor((end - start) / (bytes * count));
  const read = reader(view, format, bits);
  const channels = Array.from({ length: count }, () => new Float32Array(frames));
  for (let frame = 0, at = start; frame < frames; frame++) {
    for (let channel = 0; channel < count; channel++, at += bytes) channels[channel][frame] = read(at);
  }
  return { rate, channels };
}

/** How long a WAV file's head says that it is, in bytes. */
export function announcedBytes(first) {
  if (first.length < HEAD) return NaN;
  return new DataView(first.buffer, first.byteOffset).getUint32(4, true) + 8;
}

function head(view) {
  const name = (at) => String.fromCharCode(...new Uint8Array(view.buffer, at, 4));
  if (view.byteLength < 12 || name(0) !== "RIFF" || name(8) !== "WAVE") throw new Error("not a WAV file");
  let found = null;
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (name(at) === "fmt ") {
      found = {
        format: view.getUint16(at + 8, true),
        count: view.getUint16(at + 10, true),
        rate: view.getUint32(at + 12, true),
        bits: view.getUint16(at + 22, true),
      };
    } else if (name(at) === "data" && found) {
      return { ...found, start: at + 8, end: Math.min(at + 8 + size, view.byteLength) };
    }
    at += 8 + size + (size % 2);
  }
  throw new Error("a WAV file without samples");
}

function reader(view, format, bits) {
  if (format === 3 && bits === 32) return (at) => view.getFloat32(at, true);
  if (format === 3 && bits === 64) return (at) => view.getFloat64(at, true);
  if (bits === 16) return (at) => view.getInt16(at, true) / 32768;
  if (bits === 24) return (at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 65536) / 8388608;
  if (bits === 32) return (at) => view.getInt32(at, true) / 2147483648;
  throw new Error(`a WAV file of ${bits} bit samples`);
}

/**
 * A WAV file of 16 bit.
 * @param {Float32Array[]} channels full scale 1.0; louder samples are clipped
 * @returns {Blob}
 */
export function encode(channels, rate) {
  const frames = channels[0].length;
  const frame = 2 * channels.length;
  const view = new DataView(new ArrayBuffer(HEAD + frames * frame));
  const write = (at, text) => [...text].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, HEAD - 8 + frames * frame, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, channels.length, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * frame, true);
  view.setUint16(32, frame, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, frames * frame, true);
  for (let index = 0, at = HEAD; index < frames; index++) {
    for (const channel of channels) {
      view.setInt16(at, Math.round(Math.max(-1, Math.min(32767 / 32768, channel[index])) * 32768), true);
      at += 2;
    }
  }
  return new Blob([view.buffer], { type: "audio/wav" });
}
