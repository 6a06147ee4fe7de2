/** A blind test of A against B: X is one of them, drawn anew each time. */

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

/** True or false, each as likely, and not to be foretold. */
function coin() {
  return (crypto.getRandomValues(new Uint8Array(1))[0] & 1) === 1;
}

export class Test {
  /** @param {number} count trials @param {() => boolean} draw whether X is B */
  constructor(count, draw = coin) {
    this.count = count;
    this.draw = draw;
    this.answers = [];
    this.x = this.#next();
  }

  get done() {
    return this.answers.length >= this.count;
  }

  get right() {
    return this.answers.filter(({ x, answer }) => x === answer).length;
  }

  get chance() {
    return chance(this.right, this.answers.length);
  }

  /** @param {"a"|"b"} answer what the listener takes X for */
  answer(answer) {
    this.answers.push({ x: this.x, answer, at: new Date().toISOString() });
    if (!this.done) this.x = this.#next();
  }

  #next() {
    return this.draw() ? "b" : "a";
  }
}
