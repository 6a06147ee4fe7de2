/** The table of models: which one enhances, and what each scored. */

import { $, made } from "./dom.js";

/** Log-spectral distances: over all conditions, and of merely band-limited speech and music. */
const COLUMNS = ["overall.all.lsd", "extend.speech.lsd", "extend.music.lsd"];

/** @param {object[]} models as `GET /v1/models` lists them */
export function showModels(models, changed) {
  $("models").replaceChildren(...models.map((model) => row(model, model === (models.find((one) => one.default) ?? models[0]))));
  for (const input of document.getElementsByName("model")) input.onchange = changed;
}

/** The reference of the chosen one; empty before there are any. */
export function chosenModel() {
  return document.querySelector('[name="model"]:checked')?.value ?? "";
}

/** What the chosen one is called where it is not the default; else nothing. */
export function unusualModel() {
  const input = document.querySelector('[name="model"]:checked');
  return input?.defaultChecked === false ? input.closest("label").innerText : "";
}

function row(model, checked) {
  const radio = made("input", { type: "radio", name: "model", value: model.reference, checked, defaultChecked: checked });
  const badges = model.aliases
    .filter((alias) => alias !== model.version)
    .map((alias) => made("span", { className: `badge ${alias}`, textContent: alias }));
  const family = made("span", { className: "hint", textContent: model.model.toUpperCase() });
  const label = made("label", {}, radio, made("span", { textContent: title(model) }), family, ...badges);
  return made("tr", {}, made("td", {}, label), ...COLUMNS.map((metric) => score(model, metric)));
}

/** `3`, `released-rnn` or a folder's path as a name. */
function title({ version, model }) {
  if (/^\d+$/.test(version)) return `Version ${version}`;
  return version === `released-${model}` ? "Released" : version.replace(/\/+$/, "").split("/").pop();
}

function score(model, metric) {
  const value = model.scores[metric];
  return made("td", { className: "number", textContent: value === undefined ? "–" : value.toFixed(2) });
}
