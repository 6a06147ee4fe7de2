"""A study as one HTML page that needs no network: its figures and a table of its trials."""

from __future__ import annotations

import html
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
import pandas as pd
from optuna import visualization
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from overtone.tuning import space
from overtone.tuning.space import Space

NAMES = {"quality": "validation error", "speed": "real-time factor"}
_STYLE = (
    "body{font-family:sans-serif;margin:2em auto;max-width:75em;padding:0 1em}"
    "table{border-collapse:collapse;font-size:85%}td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid #ccc}"
)


def page(
    study: optuna.Study, objectives: Sequence[str], searched: Space, present: Mapping[str, Any], best: int | None
) -> str:
    """The page. A figure that the study has too few trials for is left out, with the reason."""
    trials = study.get_trials(deepcopy=False)
    counts = Counter(trial.state.name.lower() for trial in trials)
    shown = ", ".join(f"{count} {state}" for state, count in counts.items())
    parts = [f"<h1>Study {html.escape(study.study_name)}</h1>", f"<p>{len(trials)} trials: {shown}.</p>"]
    # Plotly itself, once.
    script: bool = True
    for title, figure in _figures(study, objectives):
        parts.append(f"<h2>{html.escape(title)}</h2>")
        if isinstance(figure, str):
            parts.append(f"<p>{html.escape(figure)}</p>")
        else:
            parts.append(figure.to_html(full_html=False, include_plotlyjs=script))
            script = False
    parts += ["<h2>Trials</h2>", _table(trials, objectives, searched, present, best)]
    head = f"<meta charset='utf-8'><title>{html.escape(study.study_name)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _figures(study: optuna.Study, objectives: Sequence[str]) -> list[tuple[str, Any]]:
    """Titles with figures, or with the reason why there is none."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return [("Figures", "No trial is complete yet.")]
    made: list[tuple[str, Any]] = []
    for index, name in enumerate(objectives):
        label, value = NAMES[name], _value(index)
        history = visualization.plot_optimization_history(study, target=value, target_name=label)
        parallel = visualization.plot_parallel_coordinate(study, target=value, target_name=label)
        made.append((f"History: {label}", history))
        made.append((f"Importance of the settings: {label}", _importances(study, index, label)))
        made.append((f"Parallel coordinates: {label}", parallel))
    if len(objectives) > 1:
        names = [NAMES[name] for name in objectives]
        made.append(("Pareto front", visualization.plot_pareto_front(study, target_names=names)))
    else:
        made.append(("Curves of the trials, by epoch", visualization.plot_intermediate_values(study)))
    return made


def _value(index: int, sign: float = 1.0) -> Callable[[FrozenTrial], float]:
    return lambda trial: sign * float(trial.values[index])


def _importances(study: optuna.Study, index: int, label: str) -> Any:
    # Importance for low values is what it computes, and says that it does.
    sign = 1.0 if study.directions[index] == optuna.study.StudyDirection.MINIMIZE else -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return visualization.plot_param_importances(study, target=_value(index, sign), target_name=label)
        except (ValueError, RuntimeError) as error:
            return f"Not computable yet: {error}"


def _table(
    trials: Sequence[FrozenTrial],
    objectives: Sequence[str],
    searched: Space,
    present: Mapping[str, Any],
    best: int | None,
) -> str:
    rows = []
    for trial in trials:
        first_try = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
        notes = (
            "best" if trial.number == best else "",
            "the settings as they were" if trial.user_attrs.get("settings") == "present" else "",
            f"again, after {first_try}" if first_try is not None else "",
            trial.user_attrs.get("reason", ""),
        )
        drawn = space.settings(trial.params, searched, present)
        values = zip(objectives, trial.values or [], strict=False)
        rows.append(
            {"trial": trial.number, "state": trial.state.name.lower()}
            | {NAMES[name]: f"{value:.4f}" for name, value in values}
            | {key: str(drawn.get(key, "")) for key in searched}
            | {"note": ", ".join(filter(None, notes))}
        )
    return str(pd.DataFrame(rows).to_html(index=False, na_rep="", border=0))
