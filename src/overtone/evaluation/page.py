"""The page itself: one HTML file that needs nothing else, the same bytes for the same inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from overtone import audio, comparison
from overtone.data.pairs import Pair
from overtone.overview import charts, clips, tables
from overtone.overview.systems import System

# Metric -> what it is called, its unit, and which way is better.
METRICS = {
    "lsd": ("Log-spectral distance (LSD)", "", "lower"),
    "lsd_hf": ("LSD above the cutoff", "", "lower"),
    "lsd_lf": ("LSD below the cutoff", "", "lower"),
    "si_sdr": ("SI-SDR", " dB", "higher"),
    "snr": ("SNR", " dB", "higher"),
    "coherence_error": ("Stereo: error of coherence", "", "lower"),
    "side_mid_error_db": ("Stereo: error of the side's level", " dB", "lower"),
    "visqol": ("ViSQOL", "", "higher"),
    "pesq": ("PESQ, wide band", "", "higher"),
    "stoi": ("STOI", "", "higher"),
}
BANDS = {"to_12k": "to 12 kHz", "12k_16k": "12 to 16 kHz", "16k_19k5": "16 to 19.5 kHz", "19k5_24k": "19.5 to 24 kHz"}
_CURVES = {"valid_lsd": "all", "valid_lsd_extend": "extend", "valid_lsd_restore": "restore"}
_ASSETS = Path(__file__).parent


def write(
    path: Path,
    systems: Sequence[System],
    listen: Mapping[str, Callable[[], clips.Enhancer]],
    pairs: Sequence[Pair],
    pairs_folder: Path,
    ablation: Path,
    progress: clips.Progress | None = None,
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        systems: in the order of the tables, baselines first.
        listen: name -> makes the system; those whose worst and best clips are heard, all beside each other.
        pairs: the test pairs that the reports are about.
        pairs_folder: what their paths are relative to.
        ablation: the CSV of `bench/ablation.py`.
        progress: called with (clips done, clips in all).

    Raises:
        OverviewError: reports, pairs or ablation that do not fit.
    """
    choices = {system.name: clips.extremes(system) for system in systems if system.name in listen}
    wanted = [key for choice in choices.values() for one in choice.values() for key in (one.worst, one.best)]
    heard = clips.heard(wanted, pairs, pairs_folder, listen, progress)
    text = page(systems, choices, heard, tables.ablation(ablation))
    with audio.replacing(path) as temporary:
        temporary.write_text(text)


def page(
    systems: Sequence[System],
    choices: Mapping[str, Mapping[str, clips.Choice]],
    heard: Mapping[str, Mapping[str, Any]],
    ablation: str,
) -> str:
    """The page's text."""
    names = [system.name for system in systems]
    parts = {
        "scores": ("Scores", _scores(systems)),
        "conditions": ("By condition", _by_condition(systems)),
        "clips": ("Over the clips", _spread(systems)),
        "bands": ("By band", _bands(systems)),
        "training": ("Training", _training(systems)),
        "listen": ("Listen", _listen(systems, choices)),
        "ablation": ("Ablation", _ablation(ablation)),
    }
    parts = {anchor: (title, body) for anchor, (title, body) in parts.items() if body}
    links = "".join(f"<a href='#{anchor}-part'>{title}</a>" for anchor, (title, _) in parts.items())
    sections = "".join(
        f"<section id='{anchor}-part'><h2>{title}</h2>{body}</section>" for anchor, (title, body) in parts.items()
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<link rel='icon' href='data:,'><title>Overtone: report</title>"
        f"<style>\n{_asset('page.css')}</style></head><body>"
        f"<header><h1>Overtone: {escape(_listed(names))} on the test set</h1>{_intro(systems)}<nav>{links}</nav></header>"
        f"<main>{sections}</main>"
        f"<script type='application/json' id='clips'>{_embedded(_data(systems, choices, heard))}</script>"
        f"<script>\n{_asset('page.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text()


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _intro(systems: Sequence[System]) -> str:
    clip_count = len({(one.condition, one.clip) for system in systems for one in system.clips})
    conditions = len(_conditions(systems))
    sets = {system.test_set for system in systems}
    note = (
        f"Test set <code>{escape(next(iter(sets))[:12])}</code>."
        if len(sets) == 1
        else "<strong>Not comparable: these reports were made on different test sets.</strong>"
    )
    return (
        f"<p>{clip_count} pairs of clips under {conditions} conditions, whose voices and pieces no training heard. "
        f"LSD: log-spectral distance, lower is better; bins above a clip's bandwidth are left out. {note}</p>"
    )


def _conditions(systems: Sequence[System]) -> list[str]:
    return comparison.conditions({system.name: system.metrics for system in systems})


def _kinds(systems: Sequence[System]) -> list[str]:
    found = {kind for system in systems for kind in system.metrics.get("overall", {})}
    return ["all", *sorted(found - {"all"})]


def _metrics(systems: Sequence[System]) -> list[str]:
    found = {
        name
        for system in systems
        for kinds in system.metrics.values()
        for scores in kinds.values()
        for name in scores
        if name in METRICS
    }
    return [name for name in METRICS if name in found]


# --- the parts --------------------------------------------------------------------------------------------------------


def _scores(systems: Sequence[System]) -> str:
    note = tables.server_note() if tables.needs_server(systems) else ""
    return (
        "<p>LSD: means of the conditions where the band is extended, where damage is repaired, and of all; each condition "
        f"counts the same. The best of a column is bold.</p>{tables.key(systems)}"
        f"<h3>Systems and their runs</h3>{tables.trainings(systems)}{note}"
    )


def _by_condition(systems: Sequence[System]) -> str:
    metrics, kinds = _metrics(systems), _kinds(systems)
    options = {
        "metric": {name: METRICS[name][0] for name in metrics},
        "kind": {kind: f"{kind} clips" if kind == "all" else kind for kind in kinds},
    }
    macro = [group for group in comparison.MACRO_GROUPS if group in systems[0].metrics]
    rows = [*_conditions(systems), *macro]
    figures = []
    for metric in metrics:
        _, unit, better = METRICS[metric]
        for kind in kinds:
            values = {one.name: [one.value(row, kind, metric) for row in rows] for one in systems}
            body = _dots(rows, values, unit, macro) + f"<p class='note'>{better.capitalize()} is better.</p>"
            figures.append(_shown(metric, kind, body, metric == metrics[0] and kind == "all"))
    legend = charts.legend([system.name for system in systems])
    full = (
        "<details><summary>The same as numbers: LSD, in brackets the share of the baseline's</summary>"
        f"{tables.by_condition(systems)}</details>"
    )
    return f"{_choosers(options)}{legend}{''.join(figures)}{full}"


def _dots(rows: Sequence[str], values: charts.Values, unit: str, macro: Sequence[str]) -> str:
    if not any(value is not None for line in values.values() for value in line):
        return "<p>Not defined for these clips.</p>"
    return charts.dots(rows, values, unit, apart=macro[0] if macro else None)


def _shown(metric: str, kind: str, body: str, first: bool) -> str:
    return f"<div data-metric='{metric}' data-kind='{escape(kind)}'{'' if first else ' hidden'}>{body}</div>"


def _choosers(options: Mapping[str, Mapping[str, str]]) -> str:
    made = ""
    for name, choices in options.items():
        items = "".join(f"<option value='{escape(value)}'>{escape(label)}</option>" for value, label in choices.items())
        made += f"<label for='{name}'>{name}<select id='{name}' autocomplete='off'>{items}</select></label>"
    return f"<div class='choose'>{made}</div>"


def _spread(systems: Sequence[System]) -> str:
    parts = []
    modes = sorted({one.mode for system in systems for one in system.clips})
    for mode in modes:
        values = {
            system.name: [one.scores["lsd"] for one in system.clips if one.mode == mode and "lsd" in one.scores]
            for system in systems
        }
        if any(values.values()):
            parts.append(f"<div><h3>LSD, mode {escape(mode)}</h3>{charts.strips(values)}</div>")
    return (
        "<p>A point is a clip under a condition. Box: quartiles, with the median; line: 5th to 95th percentile.</p>"
        f"<div class='two'>{''.join(parts)}</div>"
    )


def _bands(systems: Sequence[System]) -> str:
    parts = []
    names = {
        "lsd": "LSD in the band",
        "bias": "Level of what was added, prediction minus target, in log10 power: 0 is right, 1 is 10 dB too loud",
    }
    for measure, title in names.items():
        values = {
            system.name: [system.value("extend", "all", f"{measure}_{band}") for band in BANDS] for system in systems
        }
        if any(value is not None for line in values.values() for value in line):
            parts.append(f"<div><h3>{title}</h3>{charts.dots(list(BANDS.values()), values)}</div>")
    if not parts:
        return ""
    legend = charts.legend([system.name for system in systems])
    note = "<p>Above the cutoff, where the band is extended, all clips.</p>"
    return f"{note}{legend}<div class='two'>{''.join(parts)}</div>"


def _training(systems: Sequence[System]) -> str:
    places = {system.name: place for place, system in enumerate(systems)}
    parts = []
    for column, mode in _CURVES.items():
        lines = {}
        for system in systems:
            points = [(line["step"], line[column]) for line in system.history if column in line and "step" in line]
            if points:
                lines[system.name] = points
        if lines:
            chart = charts.curves(lines, {name: places[name] for name in lines}, "optimiser step")
            parts.append(f"<div><h3>Validation LSD, {mode}</h3>{chart}</div>")
    if not parts:
        return ""
    legend = "".join(f"<li>{charts.mark(places[one.name])}{escape(one.name)}</li>" for one in systems if one.history)
    return f"<ul class='legend'>{legend}</ul><div class='two'>{''.join(parts)}</div>"


def _listen(systems: Sequence[System], choices: Mapping[str, Mapping[str, clips.Choice]]) -> str:
    if not any(choices.values()):
        return ""
    modes = {one.condition: one.mode for system in systems for one in system.clips}
    found = {name for choice in choices.values() for name in choice}
    # What is most telling comes first: the networks, and the band extended.
    conditions = sorted(found, key=lambda name: (modes[name] != "extend", comparison.natural(name)))
    networks = list(reversed(list(choices)))
    options = {"system": {name: name for name in networks}, "condition": {name: name for name in conditions}}
    return (
        "<p>The clips with the highest and the lowest LSD of a system under a condition: what went in, what each "
        "system made of it, and the target. The loudest seconds of each clip; levels are as they are. LSD is the whole "
        "clip's. A click on a spectrogram, or the keys 1, 2, 3 ... within a clip, switch between the sounds at the same place. "
        "Sounds are Opus, which ends at 20 kHz.</p>"
        f"{_choosers(options)}<div id='cards'></div><noscript><p>The players need JavaScript.</p></noscript>"
    )


def _ablation(body: str) -> str:
    return (
        "<p>What each choice of networks and losses is worth: <code>bench/ablation.py</code> trains a network once for "
        "each variant, for a few steps, and scores excerpts of the test split. LSD of speech and of music where the band "
        "is extended, LSD where damage is repaired, change of SNR against the input, and the buzz at the hop rate. Small "
        "figures: difference from the first row. These are recorded figures (<code>docs/ablation.csv</code>), not of the "
        f"models above.</p>{body}"
    )


# --- data for the script ----------------------------------------------------------------------------------------------


def _data(
    systems: Sequence[System],
    choices: Mapping[str, Mapping[str, clips.Choice]],
    heard: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    scores: dict[str, dict[str, str]] = {key: {} for key in heard}
    for system in systems:
        for one in system.clips:
            key = f"{one.condition}/{one.clip}"
            if key in scores and clips.METRIC in one.scores:
                scores[key][system.name] = f"{one.scores[clips.METRIC]:.2f}"
                if system.name == comparison.BASELINE:
                    # Resampling adds nothing: its score is the input's own.
                    scores[key]["before"] = scores[key][system.name]
    named = {
        name: {
            condition: {"worst": "/".join(one.worst), "best": "/".join(one.best)} for condition, one in choice.items()
        }
        for name, choice in choices.items()
    }
    return {"choices": named, "scores": scores, "clips": heard}


def _embedded(tree: Mapping[str, Any]) -> str:
    """JSON that may stand within a script element."""
    return json.dumps(tree, separators=(",", ":")).replace("<", "\\u003c")
