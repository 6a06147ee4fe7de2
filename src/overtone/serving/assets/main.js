/** The page: how its parts are connected. */

import { Api, Refusal } from "./api.js";
import { Blind } from "./blind.js";
import { $, made } from "./dom.js";
import { listenForKeys } from "./keyboard.js";
import { List } from "./list.js";
import { Listen } from "./listen.js";
import { Live } from "./live.js";
import { chosenModel } from "./models.js";
import { Options } from "./options.js";
import { Player } from "./player.js";
import { Recording } from "./recording.js";
import { Sources } from "./sources.js";
import { connectTabs } from "./tabs.js";

const RETRY_MS = 2_000;

const api = new Api(askForKey);
const player = new Player();
const listen = new Listen(player);
const blind = new Blind(player);
const list = new List();
const options = new Options();
const sources = new Sources(api);
const live = new Live(api, chosenModel);
/** Of what is being enhanced. @type {AbortController | null} */
let running = null;

// --- enhancing --------------------------------------------------------------------------------------------------------

/** Recordings that were not made with the settings of now. */
function pending() {
  return list.recordings.filter((recording) => !recording.isMadeWith(options.settings));
}

async function enhance() {
  notify("");
  running = new AbortController();
  for (const recording of pending()) {
    if (!list.recordings.includes(recording)) continue;
    list.show(recording);
    await recording.enhance(options.settings, running.signal);
    if (running.signal.aborted) break;
  }
  running = null;
  ready();
  // Where the focus was on the button, the next key should play.
  if (list.shown?.urls.after && [$("enhance"), $("cancel"), document.body].includes(document.activeElement)) $("play").focus();
}

async function download() {
  const recording = list.shown;
  const format = $("format").value;
  $("download").disabled = true;
  try {
    save(await recording.fetchAs(format), `${recording.file.name.replace(/\.[^.]*$/, "")}-enhanced.${format}`);
  } catch (error) {
    failed(error);
  }
  $("download").disabled = false;
}

function save(blob, name) {
  const href = URL.createObjectURL(blob);
  made("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

// --- what is shown ----------------------------------------------------------------------------------------------------

/** Buttons that there is now something to do for. */
function ready() {
  const count = pending().length;
  $("enhance").disabled = running !== null || !count;
  $("enhance").textContent = count > 1 ? `Enhance ${count} recordings` : "Enhance";
  $("cancel").hidden = running === null;
  $("more").inert = running !== null;
  document.body.dataset.busy = running ? "yes" : "no";
}

function notify(text) {
  $("notice").hidden = !text;
  $("notice-text").textContent = text;
}

function failed(error) {
  if (!(error instanceof Refusal)) console.error(error);
  notify(error instanceof Refusal ? error.message : `The page cannot go on: ${error.message}.`);
}

/** Ask for all that the server offers, until it answers. */
async function connect() {
  const state = await api.ready();
  $("server").dataset.state = state;
  $("server-text").textContent = { ready: "Ready", asking: "The model is being loaded", down: "The server does not answer" }[state];
  if (state !== "ready") return setTimeout(connect, RETRY_MS);
  try {
    const lists = ["models", "conditions", "samples"].map((name) => api.json(`v1/${name}`));
    const [{ models }, { conditions }, { samples }] = await Promise.all(lists);
    options.show(models, conditions);
    sources.showSamples(samples);
  } catch (error) {
    failed(error);
  }
  return undefined;
}

/** The key that the user gives, or null; asked for once by all requests that wait for it. */
let asking = null;
function askForKey() {
  asking ??= new Promise((resolve) => {
    $("key").value = "";
    $("key-dialog").onclose = () => {
      asking = null;
      resolve($("key-dialog").returnValue === "ok" ? $("key").value : null);
    };
    $("key-dialog").returnValue = "";
    $("key-dialog").showModal();
  });
  return asking;
}

// --- what happens -----------------------------------------------------------------------------------------------------

for (const part of [sources, live]) part.addEventListener("failed", ({ detail }) => failed(detail));
sources.addEventListener("file", ({ detail: { file, sample } }) => {
  list.add(new Recording(api, file, sample ? options.sampleCondition : options.condition));
});
sources.addEventListener("reference", ({ detail }) => options.takeReference(detail));
list.addEventListener("show", ({ detail }) => {
  blind.close();
  listen.show(detail);
  ready();
});
list.addEventListener("change", () => {
  listen.show(list.shown);
  ready();
});
options.addEventListener("change", ready);
$("condition").addEventListener("change", () => {
  for (const recording of list.recordings) recording.damageWith(options.condition);
});
blind.addEventListener("change", () => (listen.secret = blind.running));
$("form").onsubmit = (event) => {
  event.preventDefault();
  enhance();
};
$("cancel").onclick = () => running?.abort();
$("download").onclick = download;
window.addEventListener("pagehide", ({ persisted }) => {
  if (!persisted) for (const recording of list.recordings) recording.forget();
});
$("notice-close").onclick = () => notify("");
$("key-cancel").onclick = () => $("key-dialog").close("");
connectTabs((panel) => {
  if (panel === "live") player.pause();
  else live.stop();
});

const LISTENING = {
  b: () => listen.choose("before"),
  a: () => listen.choose("after"),
  o: () => listen.choose("original"),
  s: () => listen.switchOver(),
};
const TESTING = {
  a: () => blind.listen("a"),
  b: () => blind.listen("b"),
  x: () => blind.listen("x"),
  1: () => blind.answer("a"),
  2: () => blind.answer("b"),
};
const ALWAYS = { " ": () => player.toggle(), arrowleft: () => listen.step(-1), arrowright: () => listen.step(1) };

listenForKeys((key) => {
  if (!list.shown || $("files").hidden) return undefined;
  return { ...ALWAYS, ...(blind.running ? TESTING : LISTENING) }[key];
});

ready();
connect();
