/** The page: a sound is chosen, perhaps damaged, enhanced, and compared with what it was. */

import { Api } from "./api.js";
import { Blind } from "./blind.js";
import { listenForKeys } from "./keyboard.js";
import { Listen } from "./listen.js";
import { Models } from "./models.js";
import { drawScale, kilohertz } from "./picture.js";
import { Player } from "./player.js";
import { Sound } from "./sound.js";
import { notify, say, Tasks } from "./tasks.js";
import * as wav from "./wav.js";

const RATE = 48_000;
const RETRY_MS = 5_000;
const MODES = {
  auto: "What suits the damage chosen above; for a recording as it is, extend.",
  extend: "The known band stays as it is; what is above the cutoff is added.",
  restore: "The known band is repaired too: codecs, lost packets.",
};
const $ = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`[name="${name}"]:checked`).value;

const context = new AudioContext({ sampleRate: RATE });
const player = new Player(context);
const api = new Api(askForKey);
const sound = new Sound(api);
const models = new Models();
const listen = new Listen(context, player);
const blind = new Blind(player, () => ({ recording: source?.name, condition: prepared?.condition, ...result?.told }));

/** @type {import("./sound.js").Source | null} */
let source = null;
/** The sound before: {blob, query, condition}, what is sent to be enhanced and what the condition says of it. */
let prepared = null;
/** The sound after: {buffer, blob, query, told}. */
let result = null;
/** The server knows no name of what it was sent. */
const tasks = new Tasks(ready, (sentence) => sentence.replace(/^Audio: /, () => `${source?.name ?? "The recording"}: `));

// --- the way of a sound ---------------------------------------------------------------------------------------------

/** Fetch the sound before, as the condition makes it of the source. */
async function prepare() {
  if (!source) return;
  forget();
  const condition = sound.condition;
  const taken = source;
  await tasks.run("Reading…", async (options) => {
    const { buffer, headers } = await api.degrade(taken.blob, { condition: condition.name, format: "wav" }, options);
    const plain = condition.name === "none";
    const original = plain ? null : await api.degrade(taken.blob, { condition: "none", format: "wav" }, options);
    const wave = new Blob([buffer], { type: "audio/wav" });
    const before = wav.decode(buffer);
    // As it is, the file itself is sent: its rate and format tell the server more than its samples.
    const known = plain ? {} : { mode: condition.mode, cutoff: headers.get("X-Overtone-Cutoff-Hz") };
    prepared = { blob: plain ? taken.blob : wave, wave, known, condition: condition.name, seconds: seconds(before) };
    listen.markCutoff(known.cutoff ? Number(known.cutoff) : null);
    $("before-text").textContent = plain ? taken.name : `${taken.name}, ${condition.title}`;
    const drawn = listen.load("before", before);
    listen.load("original", original && wav.decode(original.buffer));
    listen.choose("before");
    await drawn;
    say(`${seconds(before).toFixed(1)} s, ${before.channels.length === 1 ? "mono" : `${before.channels.length} channels`}`);
  });
}

async function enhance() {
  if (!prepared) return;
  const { blob, known } = prepared;
  const mode = chosen("mode");
  const query = {
    model: models.chosen?.reference ?? "",
    mode: mode === "auto" ? (known.mode ?? "auto") : mode,
    cutoff_hz: $("cutoff").value || known.cutoff,
  };
  // The sound after would still be of the old settings.
  forgetResult();
  await tasks.run("Enhancing…", async (options) => {
    const start = performance.now();
    const { buffer, headers } = await api.enhance(blob, { ...query, format: "wav" }, options);
    const took = (performance.now() - start) / 1000;
    const version = headers.get("X-Overtone-Version");
    // The alias may move on before the download.
    if (/^\d+$/.test(version)) query.model = version;
    result = { buffer, blob, query, name: source.name, told: told(headers, took) };
    listen.markCutoff(Number(headers.get("X-Overtone-Cutoff-Hz")));
    $("after-text").textContent = `${result.told.model}, ${result.told.mode}`;
    const drawn = listen.load("after", wav.decode(buffer));
    listen.choose("after");
    facts(result.told);
    await drawn;
    // Where the focus was on the button, the next key should play.
    if (["enhance", "cancel", ""].includes(document.activeElement?.id ?? "")) $("play").focus({ preventScroll: true });
    say(`Done in ${took.toFixed(1)} s, ${(prepared.seconds / took).toFixed(1)} × real time`);
  });
}

/** What an answer says of itself. */
function told(headers, took) {
  const version = headers.get("X-Overtone-Version");
  const short = version.replace(/\/+$/, "").split("/").pop().replace(/^released-(rnn|cnn)$/, "released");
  return {
    model: `${headers.get("X-Overtone-Model").toUpperCase()} ${/^\d+$/.test(version) ? `version ${version}` : short}`,
    mode: headers.get("X-Overtone-Mode"),
    cutoff_hz: Number(headers.get("X-Overtone-Cutoff-Hz")),
    seconds: took,
    times_real_time: prepared.seconds / took,
  };
}

function facts(known) {
  const rows = known && {
    Model: known.model,
    Mode: known.mode,
    Cutoff: kilohertz(known.cutoff_hz),
    Time: `${known.seconds.toFixed(2)} s`,
    Speed: `${known.times_real_time.toFixed(1)} × real time`,
  };
  $("facts").replaceChildren(
    ...Object.entries(rows ?? {}).map(([name, value]) => {
      const entry = document.createElement("div");
      entry.append(
        Object.assign(document.createElement("dt"), { textContent: name }),
        Object.assign(document.createElement("dd"), { textContent: value }),
      );
      return entry;
    }),
  );
}

const seconds = ({ channels, rate }) => channels[0].length / rate;

function forgetResult() {
  result = null;
  blind.reset();
  listen.load("after", null);
  $("after-text").textContent = "";
  facts(null);
}

function forget() {
  player.pause();
  player.seek(0);
  prepared = null;
  forgetResult();
  listen.load("before", null);
  listen.load("original", null);
  listen.markCutoff(null);
  $("before-text").textContent = "";
}

// --- what can be done now ---------------------------------------------------------------------------------------------

/** Buttons that there is now something to do for. */
function ready() {
  const busy = tasks.busy;
  $("enhance").disabled = busy || !prepared;
  $("cancel").hidden = !busy;
  $("download").disabled = busy || !result;
  $("download-before").disabled = busy || !prepared;
  blind.possible = !busy && result !== null;
  document.body.dataset.busy = busy ? "yes" : "no";
}

// --- downloads ------------------------------------------------------------------------------------------------------

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

const stem = (name) => name.replace(/\.[^.]*$/, "");

/** The sound after in the format chosen; the server makes all but WAV, which is what is heard. */
async function download() {
  const format = $("format").value;
  const { buffer, blob, query, name } = result;
  const target = `${stem(name)}-overtone.${format}`;
  if (format === "wav") return save(new Blob([buffer], { type: "audio/wav" }), target);
  return tasks.run(`Making ${target}…`, async (options) => {
    const answer = await api.enhance(blob, { ...query, format }, options);
    save(new Blob([answer.buffer], { type: answer.headers.get("Content-Type") }), target);
    say(`${target} is saved`);
  });
}

function tellHow() {
  const mode = chosen("mode");
  const cutoff = $("cutoff").value ? `${$("cutoff").value} Hz` : "auto";
  $("mode-text").textContent = MODES[mode];
  $("how-text").textContent = mode === cutoff ? mode : `${mode}, ${cutoff}`;
}

// --- the server -----------------------------------------------------------------------------------------------------

/** Ask for all that the server offers, until it answers. */
async function meet() {
  const state = await api.ready();
  $("server").dataset.state = state;
  $("server-text").textContent = { ready: "Ready", asking: "The model is being loaded", down: "The server does not answer" }[state];
  if (state !== "ready") return setTimeout(meet, RETRY_MS);
  try {
    const [known, damages, clips] = await Promise.all([api.models(), api.conditions(), api.samples()]);
    models.show(known.models);
    sound.showConditions(damages.conditions);
    sound.showSamples(clips.samples);
    $("server-text").textContent = `${known.models.length} ${known.models.length === 1 ? "model" : "models"} ready`;
  } catch (error) {
    tasks.failed(error);
  }
  return undefined;
}

/** The key that the user gives, or null; asked once for all requests that wait for it. */
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

// --- what the user does ---------------------------------------------------------------------------------------------

sound.addEventListener("source", ({ detail }) => {
  source = detail;
  prepare();
});
sound.addEventListener("condition", prepare);
sound.addEventListener("failed", ({ detail }) => tasks.failed(detail));
blind.addEventListener("change", () => (listen.secret = blind.running));
blind.addEventListener("save", ({ detail }) => save(new Blob([detail], { type: "application/json" }), "overtone-abx.json"));
$("desk").onsubmit = (event) => {
  event.preventDefault();
  enhance();
};
$("cancel").onclick = () => tasks.cancel();
$("download").onclick = download;
$("download-before").onclick = () => save(prepared.wave, `${stem(source.name)}-${prepared.condition}.wav`);
$("notice-close").onclick = () => notify("");
$("key-cancel").onclick = () => $("key-dialog").close("");
for (const input of document.getElementsByName("mode")) input.onchange = tellHow;
$("cutoff").oninput = tellHow;
document.addEventListener("click", () => context.resume(), { once: true });

listenForKeys((key) =>
  blind.running
    ? {
        " ": () => listen.toggle(),
        a: () => blind.listen("a"),
        b: () => blind.listen("b"),
        x: () => blind.listen("x"),
        1: () => blind.answer("a"),
        2: () => blind.answer("b"),
        arrowleft: () => listen.step(-1),
        arrowright: () => listen.step(1),
      }[key]
    : prepared && {
        " ": () => listen.toggle(),
        b: () => listen.choose("before"),
        a: () => listen.choose("after"),
        o: () => listen.choose("original"),
        s: () => listen.switchOver(),
        arrowleft: () => listen.step(-1),
        arrowright: () => listen.step(1),
      }[key],
);

tellHow();
drawScale($("scale"));
ready();
meet();
