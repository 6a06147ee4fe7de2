/** The colour map "magma" (van der Walt and Smith, CC0): equal steps of level look like equal steps, also in grey. */

const ANCHORS = (
  "000004 030312 0a0822 130d34 1d1147 29115a 36106b 440f76 51127c 5d177f 6a1c81 762181 832681 902a81 9c2e7f aa337d b73779 " +
  "c43c75 d0416f dc4869 e75263 ef5d5e f56b5c f9795d fc8961 fd9869 fea772 feb67c fec488 fed395 fde2a3 fcf0b2 fcfdbf"
).split(" ");

/** 256 colours as red, green and blue, darkest first. */
export const MAGMA = new Uint8Array(3 * 256);

for (let level = 0; level < 256; level++) {
  const place = (level / 255) * (ANCHORS.length - 1);
  const below = Math.min(Math.floor(place), ANCHORS.length - 2);
  for (let part = 0; part < 3; part++) {
    const [low, high] = [below, below + 1].map((at) => parseInt(ANCHORS[at].slice(2 * part, 2 * part + 2), 16));
    MAGMA[3 * level + part] = Math.round(low + (high - low) * (place - below));
  }
}
