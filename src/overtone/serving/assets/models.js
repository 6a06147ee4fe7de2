/** The table of models: which one enhances, and what each scored. */

const KINDS = { rnn: "RNN", cnn: "CNN" };
/** Log-spectral distances: over all conditions, and of merely band-limited speech and music. */
const COLUMNS = ["overall.all.lsd", "extend.speech.lsd", "extend.music.lsd"];
const $ = (id) => document.getElementById(id);

/** An element with text or children. */
function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export class Models {
  #models = [];

  /** @param {object[]} models as `GET /v1/models` lists them; the choice so far stays where it can */
  show(models) {
    const chosen = this.chosen?.version;
    this.#models = models;
    const kept = models.find(({ version }) => version === chosen) ?? models.find((one) => one.default) ?? models[0];
    $("models").replaceChildren(...models.map((model) => this.#row(model, model === kept)));
    this.#scores();
  }

  /** The chosen model, undefined before there are any. */
  get chosen() {
    return this.#models[Number(document.querySelector('[name="model"]:checked')?.value ?? -1)];
  }

  #row(model, checked) {
    const radio = made("input", { type: "radio", name: "model", value: this.#models.indexOf(model), checked });
    radio.onchange = () => this.#scores();
    const badges = model.aliases
      .filter((alias) => alias !== model.version)
      .map((alias) => made("span", { className: `badge ${alias}`, textContent: alias }));
    const name = /^\d+$/.test(model.version) ? `Version ${model.version}` : title(model.version);
    const kind = made("span", { className: "hint", textContent: KINDS[model.model] ?? model.model });
    const label = made("label", {}, radio, made("span", { textContent: name }), kind, ...badges);
    const row = made("tr", {}, made("td", {}, label), ...COLUMNS.map((metric) => score(model, metric)));
    row.onclick = ({ target }) => target.closest("label") || radio.click();
    return row;
  }

  #scores() {
    const rows = Object.entries(this.chosen?.scores ?? {}).sort(([one], [other]) => one.localeCompare(other));
    $("scores").hidden = !rows.length;
    $("scores-rows").replaceChildren(
      ...rows.map(([name, value]) =>
        made("tr", {}, made("td", { textContent: named(name) }), made("td", { className: "number", textContent: value.toFixed(3) })),
      ),
    );
  }
}

/** `released-rnn` or a folder's path as a name. */
function title(version) {
  const last = version.replace(/\/+$/, "").split("/").pop();
  const short = last.replace(/^released-(rnn|cnn)$/, "released");
  return short[0].toUpperCase() + short.slice(1);
}

function score(model, metric) {
  const value = model.scores[metric];
  return made("td", { className: "number", textContent: value === undefined ? "–" : value.toFixed(2) });
}

/** `extend.speech.lsd` in words. */
function named(metric) {
  const [group, kind, name] = metric.split(".");
  if (!name) return metric;
  const units = { lsd: "LSD", si_sdr: "SI-SDR, dB", snr: "SNR, dB" };
  return `${group}, ${kind === "all" ? "all sounds" : kind}: ${units[name] ?? name.replaceAll("_", " ")}`;
}
