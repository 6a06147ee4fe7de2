"""A model card: what a version was trained on, how good it is, where it falls short, whose audio that is, how to use it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone.evaluation import table as comparison
from overtone.registry import versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What MLflow's database takes as a description.
LONGEST = 5000
_ABOUT = "Audio super-resolution: encoded audio in, 48 kHz audio out."


@dataclass(frozen=True)
class TrainingAudio:
    """The training split: minutes and sources by kind, and the licences that its catalog names, the most frequent first."""

    minutes: Mapping[str, float]
    sources: Mapping[str, int]
    licences: Sequence[str] = ()


def training_audio(folder: Path, raw: Path) -> TrainingAudio | None:
    """The training split, from the corpus and the catalog of the raw folder; None where there is no corpus.

    Args:
        folder: the output of the stage corpus.
        raw: the raw folder; the licences are the column `licence` of its `catalog.csv`.
    """
    # Brings SciPy along, which the other commands of the registry do without.
    from overtone.data import corpus

    try:
        clips = [clip for clip in corpus.read_manifest(folder) if clip.split == "train"]
    except corpus.CorpusError:
        return None
    kinds = sorted({clip.kind for clip in clips})
    catalog = raw / "catalog.csv"
    named: Counter[str] = Counter()
    if catalog.is_file():
        with catalog.open(newline="", encoding="utf-8") as file:
            licences = {line["path"]: line.get("licence") for line in csv.DictReader(file) if "path" in line}
        named.update(licence for clip in clips if (licence := licences.get(clip.origin)))
    return TrainingAudio(
        {kind: sum(clip.seconds for clip in clips if clip.kind == kind) / 60 for kind in kinds},
        {kind: len({clip.source for clip in clips if clip.kind == kind}) for kind in kinds},
        [licence for licence, _ in named.most_common()],
    )


def write(
    system: str,
    metrics_by_system: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Any],
    audio: TrainingAudio | None,
) -> str:
    """The card as Markdown, at most `LONGEST` characters.

    Args:
        system: the model, among `metrics_by_system`.
        metrics_by_system: the model's metrics.json and those it is compared with.
        facts: its `run.json`.
        audio: what it was trained on; None where that is not known here.
    """
    own = metrics_by_system[system]
    alike = {name: tree for name, tree in metrics_by_system.items() if tree.get("test_set") == own.get("test_set")}
    parts = [
        _made(system, facts),
        f"**Trained on.** {_trained(facts, audio)}",
        f"**Limits.** {_limits(system, alike)}",
        "**Use.** `overtone enhance IN OUT --model VERSION`, in Python `Upsampler.load(folder)` after "
        "`overtone fetch VERSION folder`, over HTTP `mlflow models serve -m models:/NAME/VERSION --env-manager local`.",
        f"**Scores** on the test set `{str(own.get('test_set', ''))[:12]}`, of voices and pieces that no training has "
        f"(LSD, lower is better):",
        comparison.key_table(alike),
        # The last: a corpus may have any number of them.
        f"**Licence.** {_licence(audio)}",
    ]
    return "\n\n".join(parts)[:LONGEST]


def _made(system: str, facts: Mapping[str, Any]) -> str:
    size = f" of {facts['parameters'] / 1e6:.2f} M parameters" if "parameters" in facts else ""
    steps = f", {facts['steps']} optimiser steps" if "steps" in facts else ""
    commit = f", commit `{str(facts['commit'])[:10]}`" if facts.get("commit") else ""
    return f"**Network** {system}{size}{steps}{commit}."


def _trained(facts: Mapping[str, Any], audio: TrainingAudio | None) -> str:
    digest = f" Data `{facts['data_digest']}`." if facts.get("data_digest") else ""
    if audio is None:
        return f"The corpus is not here to be described.{digest}"
    kinds = ", ".join(
        f"{minutes:.1f} min of {kind} ({audio.sources.get(kind, 0)} sources)" for kind, minutes in audio.minutes.items()
    )
    return f"{kinds}.{digest}"


def _limits(system: str, alike: Mapping[str, Mapping[str, Any]]) -> str:
    """Where the model is no better than the best that takes no training, from the figures."""
    others = [name for name in alike if name in ("sinc", "sbr") and name != system]
    behind = []
    for condition in comparison.conditions({system: alike[system]}):
        for kind in sorted(set(alike[system][condition]) - {"all"}):
            ours = alike[system][condition][kind].get("lsd")
            known = [alike[name].get(condition, {}).get(kind, {}).get("lsd") for name in others]
            best = min((value for value in known if value is not None), default=None)
            if ours is not None and best is not None and ours > 0.97 * best:
                behind.append(f"{condition} ({kind})")
    measured = (
        f"Within 3 % of a baseline or behind it, by LSD: {', '.join(behind)}."
        if behind
        else "More than 3 % ahead of the baselines under every condition, by LSD."
    )
    return (
        f"{measured} What it adds above the cutoff is plausible, not recovered: unfit as evidence of what was said or "
        "played. LSD is no listening test. Kinds of audio other than those trained on were not tested."
    )


def _licence(audio: TrainingAudio | None) -> str:
    code = "The code is under the MIT licence."
    if audio is None or not audio.licences:
        return f"{code} The licences of the training audio are not stated: its folder has no catalog that names them."
    return f"{code} The training audio keeps its own: {'; '.join(audio.licences)}."


def show_champion(client: MlflowClient, name: str) -> None:
    """Make the registered model's description the card of its champion."""
    registered = client.get_registered_model(name)
    text, number = f"{_ABOUT} No version is champion yet.", versions.champion(registered)
    if number is not None:
        version = client.get_model_version(name, str(number))
        kind = version.tags.get("model", "model")
        text = f"{_ABOUT}\n\n# Champion: version {number} ({kind})\n\n{version.description or ''}"
    if registered.description != (text := text.rstrip()[:LONGEST]):
        client.update_registered_model(name, text)
