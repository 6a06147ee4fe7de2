/** Programme loudness after ITU-R BS.1770-4: what makes two versions comparable by ear. For signals at 48 kHz. */

// The recommendation's two filters: the head's shelf, and a high-pass.
const SHELF = { b: [1.53512485958697, -2.69169618940638, 1.19839281085285], a: [-1.69065929318241, 0.73248077421585] };
const HIGH_PASS = { b: [1.0, -2.0, 1.0], a: [-1.99004745483398, 0.99007225036621] };
const BLOCK = 19_200; // 400 ms
const STEP = 4_800; // blocks overlap by three quarters
const ABSOLUTE_GATE = -70;
const RELATIVE_GATE = -10;

/**
 * Integrated loudness in LUFS; -Infinity for silence.
 * @param {Float32Array[]} channels left and right, or one; full scale 1.0
 */
export function loudness(channels) {
  const powers = blockPowers(channels);
  const loud = powers.filter((power) => level(power) > ABSOLUTE_GATE);
  if (!loud.length) return -Infinity;
  const gate = level(mean(loud)) + RELATIVE_GATE;
  return level(mean(loud.filter((power) => level(power) > gate)));
}

/**
 * Factors that bring versions to the loudness of the softest: none is made louder, so none can clip.
 * @param {Record<string, number>} levels LUFS by name
 * @returns {Record<string, number>}
 */
export function matching(levels) {
  const softest = Math.min(...Object.values(levels).filter(Number.isFinite));
  const factor = (lufs) => (Number.isFinite(lufs) && Number.isFinite(softest) ? 10 ** ((softest - lufs) / 20) : 1);
  return Object.fromEntries(Object.entries(levels).map(([name, lufs]) => [name, factor(lufs)]));
}

const level = (power) => -0.691 + 10 * Math.log10(power);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Mean square of each 400 ms, summed over channels; one block for less than that. */
function blockPowers(channels) {
  const frames = channels[0].length;
  const steps = Math.max(1, Math.ceil(frames / STEP));
  const sums = new Float64Array(steps);
  for (const samples of channels) accumulate(samples, sums);
  const inBlock = BLOCK / STEP;
  if (frames < BLOCK) return [sums.reduce((one, other) => one + other, 0) / Math.max(1, frames)];
  const powers = [];
  for (let first = 0; first + inBlock <= Math.floor(frames / STEP); first++) {
    let sum = 0;
    for (let step = 0; step < inBlock; step++) sum += sums[first + step];
    powers.push(sum / BLOCK);
  }
  return powers;
}

/** Add the squares of a channel's weighted samples to the sums of its 100 ms steps. */
function accumulate(samples, sums) {
  const shelf = biquad(SHELF);
  const highPass = biquad(HIGH_PASS);
  for (let index = 0; index < samples.length; index++) {
    const weighted = highPass(shelf(samples[index]));
    sums[Math.floor(index / STEP)] += weighted * weighted;
  }
}

function biquad({ b: [b0, b1, b2], a: [a1, a2] }) {
  let s1 = 0;
  let s2 = 0;
  return (x) => {
    const y = b0 * x + s1;
    s1 = b1 * x - a1 * y + s2;
    s2 = b2 * x - a2 * y;
    return y;
  };
}
