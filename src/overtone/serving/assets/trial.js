/** The blind test's arithmetic: X is A or B, drawn anew for each trial. */

/**
 * Probability of at least `right` right answers of `count` by guessing: one-sided, binomial with one half.
 * @returns {number}
 */
export function chance(right, count) {
  // In logarithms: binomials of long tests do not fit a number.
  let logarithm = -count * Math.LN2;
  let sum = 0;
  for (let k = 0; k <= count; k++) {
    if (k >= right) sum += Math.exp(logarithm);
    logarithm += Math.log((count - k) / (k + 1));
  }
  return Math.min(1, sum);
}

export class Test {
  right = 0;
  answered = 0;

  /** @param {number} count trials */
  constructor(count) {
    this.count = count;
    this.x = draw();
  }

  get done() {
    return this.answered >= this.count;
  }

  /** @param {"a"|"b"} answer what the listener takes X for */
  answer(answer) {
    if (answer === this.x) this.right++;
    this.answered++;
    this.x = draw();
  }
}

/** Either, each as likely, and not to be foretold. */
function draw() {
  return crypto.getRandomValues(new Uint8Array(1))[0] & 1 ? "b" : "a";
}
