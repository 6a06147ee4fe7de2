"use strict";
const data = JSON.parse(document.getElementById("clips").textContent);
const at = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// One chart of a set is shown: that of the chosen metric and kind.
const show = () => {
  for (const figure of document.querySelectorAll("[data-metric]")) {
    figure.hidden = figure.dataset.metric !== at("metric").value || figure.dataset.kind !== at("kind").value;
  }
};

// Players of one card take over from each other at the same place, so that the ear compares the same moment.
const stopAll = (but) => {
  for (const player of document.querySelectorAll("audio")) if (player !== but) player.pause();
};
const start = (card, player) => {
  const other = [...card.querySelectorAll("audio")].find((one) => one !== player && !one.paused);
  if (other) player.currentTime = other.currentTime;
  player.play();
};

const sound = (card, clip, one, score) => {
  const player = make("audio", { controls: true, preload: "metadata", src: one.audio });
  player.setAttribute("aria-label", one.name);
  const head = make("span", { className: "head" });
  const picture = make("img", { src: one.picture, alt: `Spectrogram: ${one.name}` });
  const view = make("button", { className: "view", type: "button", title: `Play ${one.name}` }, picture, head);
  if (clip.cutoff_khz) {
    const line = make("span", { className: "cutoff", title: `cutoff ${clip.cutoff_khz} kHz` });
    line.style.bottom = `${100 * clip.cutoff_khz / clip.top_khz}%`;
    view.append(line);
  }
  const figure = make("figure", {}, view, make("figcaption", { textContent: score ? `${one.name}: LSD ${score}` : one.name }), player);
  view.addEventListener("click", () => (player.paused ? start(card, player) : player.pause()));
  player.addEventListener("play", () => {
    stopAll(player);
    figure.classList.add("playing");
    const step = () => {
      head.style.left = `${100 * player.currentTime / (player.duration || 1)}%`;
      if (!player.paused) requestAnimationFrame(step);
    };
    step();
  });
  for (const event of ["pause", "ended"]) player.addEventListener(event, () => figure.classList.remove("playing"));
  return figure;
};

const fill = () => {
  const system = at("system").value;
  const condition = at("condition").value;
  const choice = (data.choices[system] || {})[condition];
  const cards = choice ? ["worst", "best"].map((which) => {
    const clip = data.clips[choice[which]];
    const scores = data.scores[choice[which]];
    const card = make("section", { className: "card" });
    card.append(make("h3", { textContent: `${which === "worst" ? "Worst" : "Best"} of ${system}, ${condition}: ${clip.clip}` }));
    card.append(make("p", { className: "note", textContent:
      `${clip.kind}, mode ${clip.mode}; ${clip.seconds} s from second ${clip.start}; 0 to ${clip.top_khz} kHz` +
      (clip.cutoff_khz ? `, cutoff (dashed) ${clip.cutoff_khz} kHz` : "") + "." }));
    const row = make("div", { className: "sounds" });
    clip.sounds.forEach((one) => row.append(sound(card, clip, one, scores[one.name])));
    card.append(row);
    card.addEventListener("keydown", (event) => {
      const players = card.querySelectorAll("audio");
      const place = Number(event.key) - 1;
      if (players[place] && !event.ctrlKey && !event.metaKey && !event.altKey) start(card, players[place]);
    });
    return card;
  }) : [make("p", { textContent: "No clip has a score here." })];
  at("cards").replaceChildren(...cards);
};

for (const id of ["metric", "kind"]) at(id).addEventListener("change", show);
for (const id of ["system", "condition"]) if (at(id)) at(id).addEventListener("change", fill);
show();
if (at("cards")) fill();
