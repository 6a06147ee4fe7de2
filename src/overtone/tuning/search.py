"""`overtone tune`: the trials of a call, what came of them, and the winner's settings in `params.yaml`."""

from __future__ import annotations

import contextlib
import difflib
import html
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState

from overtone import settings as settings_file
from overtone.audio import replacing
from overtone.tracking.address import public_uri
from overtone.tracking.studies import StudyRun, study_run
from overtone.tuning import space, worker
from overtone.tuning import study as studies
from overtone.tuning.plan import Plan, TuningError

NAMES = {"quality": "validation error", "speed": "real-time factor"}


@dataclass(frozen=True)
class Result:
    """What a study has come to.

    Args:
        trial: number of the chosen trial; None while none is complete.
        values: its objectives.
        settings: what was searched, as it had it.
        present: the validation LSD of the settings of params.yaml, where that trial is complete.
        page: the study's page.
    """

    trial: int | None
    values: Mapping[str, float]
    settings: Mapping[str, Any]
    present: float | None
    page: Path


def tune(
    plan: Plan, reports: Path, overrides: Sequence[str] = (), chosen: int | None = None, dry_run: bool = False
) -> None:
    """Search for better settings, and write the winner's into `params.yaml`.

    Args:
        reports: folder for the study's page.
        overrides: that the settings of the plan came by; `params.yaml` does not have them.
        chosen: number of the trial whose settings are written, in place of the one of best quality.
        dry_run: show what would change, and change nothing.
    """
    result = search(plan, reports, chosen)
    print(f"{result.page}: charts and every trial")
    if result.trial is None:
        print(f"study {plan.study}: no trial is complete; params.yaml stays as it is")
        return
    values = ", ".join(f"{name} {value:.4f}" for name, value in result.values.items())
    print(f"{'chosen' if chosen is not None else 'best'}: trial {result.trial}, {values}; {_shown(result.settings)}")
    if result.values["quality"] == result.present:
        print("no better than the present settings")
    elif result.present is not None:
        gain = result.present - result.values["quality"]
        print(f"the present settings: quality {result.present:.4f}; the trial's is {gain:.4f} lower")
    _write(result.settings, dry_run)
    if others := [text for text in overrides if not text.startswith("tune.")]:
        print(f"the trials had {', '.join(others)} too, which params.yaml does not")


def search(plan: Plan, reports: Path, chosen: int | None = None) -> Result:
    """Run the trials of a call, print a line for each, then plot the study and choose from it.

    Args:
        reports: folder for the study's page.
        chosen: number of the trial to choose, in place of the one of best quality.

    Raises:
        TuningError: the study cannot be continued, the workers keep dying, or there is no complete trial `chosen`.
    """
    with contextlib.ExitStack() as stack:
        with studies.lock(plan):
            study = studies.open_study(plan)
            if chosen is not None:
                _complete(study, chosen)
            run = stack.enter_context(_recorded(plan, study))
            study.set_user_attr("run_id", run.run_id)
        optuna.storages.fail_stale_trials(study)
        plan = plan.model_copy(update={"parent": run.run_id})
        try:
            if plan.goal:
                before = len(study.get_trials(deepcopy=False, states=studies.FINISHED))
                count = f"{plan.goal} more by {plan.workers} worker{'s' if plan.workers > 1 else ''}"
                print(f"study {plan.study}: {before} trials finished, {count}, run {run.run_id}", flush=True)
                worker.run(plan, study, lambda trial: print(line(trial, plan), flush=True))
        except (KeyboardInterrupt, SystemExit):
            print(f"interrupted; the same command continues study {plan.study}", flush=True)
            raise
        finally:
            result = _conclude(plan, study, run, reports, chosen)
    return result


def _recorded(plan: Plan, study: optuna.Study) -> contextlib.AbstractContextManager[StudyRun]:
    """The MLflow run of the study, new or that of earlier calls."""
    tags = {
        "tune.study": plan.study,
        "model": plan.kind,
        "tune.objectives": ", ".join(plan.objectives),
        "tune.storage": public_uri(plan.storage),
        "tune.data": study.user_attrs["identity"]["data"][:12],
    }
    tune = plan.params.tune.model_dump(mode="json", exclude={"space", "storage", "study", "trials", "workers"})
    searched = {f"space.{key}": dimension.model_dump(mode="json") for key, dimension in plan.space.items()}
    params = {f"tune.{key}": value for key, value in (tune | searched).items()}
    return study_run(plan.study, study.user_attrs.get("run_id"), tags, params)


def line(trial: FrozenTrial, plan: Plan) -> str:
    """A finished trial in a line: number, state, values, settings."""
    values = [f"{NAMES[name]} {value:.4f}" for name, value in zip(plan.objectives, trial.values or [], strict=False)]
    drawn = space.settings(trial.params, plan.space, space.present(plan.params, plan.space))
    reason = trial.user_attrs.get("reason")
    words = [trial.state.name.lower(), *values, *([reason] if reason else [])]
    return f"trial {trial.number}: {', '.join(words)}; {_shown(drawn)}"


def _shown(settings: Mapping[str, Any]) -> str:
    """Settings in a line, under the last part of their names."""
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in settings.items())


def _complete(study: optuna.Study, number: int) -> FrozenTrial:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found = next((trial for trial in complete if trial.number == number), None)
    if found is None:
        raise TuningError(f"study {study.study_name}: has no complete trial {number}")
    return found


def _conclude(plan: Plan, study: optuna.Study, run: StudyRun, reports: Path, chosen: int | None) -> Result:
    present = space.present(plan.params, plan.space)
    winner = studies.best(study) if chosen is None else _complete(study, chosen)
    number = winner.number if winner else None
    settings = space.settings(winner.params, plan.space, present) if winner else {}
    values = dict(zip(plan.objectives, winner.values, strict=True)) if winner else {}
    page, best = reports / f"{plan.study}.html", reports / f"{plan.study}.json"
    with replacing(page) as temporary:
        temporary.write_text(_page(plan, study))
    tags: dict[str, str] = {}
    if winner:
        facts = {"study": plan.study, "trial": number, **values, "settings": settings}
        with replacing(best) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n")
        tags = {"tune.best_trial": str(number), "tune.best_run": winner.user_attrs.get("run_id", "")}
    finished = studies.of_call(study, plan.call, (TrialState.COMPLETE,))
    points = [
        (name, value, trial.number)
        for trial in finished
        for name, value in zip(plan.objectives, trial.values, strict=True)
    ]
    run.log(points, [page, best] if winner else [page], tags)
    same = [trial for trial in studies.with_settings(study, plan, present) if trial.state == TrialState.COMPLETE]
    return Result(number, values, settings, min((trial.values[0] for trial in same), default=None), page)


def _page(plan: Plan, study: optuna.Study) -> str:
    """Optuna's charts of a study and a table of its trials, as a page that needs no network."""
    # The charts are promised to no version, and say so.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    figures = []
    for index, name in enumerate(plan.objectives if studies.best(study) else ()):
        options: dict[str, Any] = {"target": lambda trial, index=index: trial.values[index], "target_name": NAMES[name]}
        figures.append(visualization.plot_optimization_history(study, **options))
        figures.append(visualization.plot_parallel_coordinate(study, **options))
        # Too few or too equal trials tell nothing of their settings.
        with contextlib.suppress(ValueError, RuntimeError), warnings.catch_warnings(action="ignore"):
            figures.append(visualization.plot_param_importances(study, **options))
    if figures and len(plan.objectives) > 1:
        figures.append(visualization.plot_pareto_front(study, target_names=[NAMES[name] for name in plan.objectives]))
    elif figures:
        figures.append(visualization.plot_intermediate_values(study))
    parts = [figure.to_html(full_html=False, include_plotlyjs=not number) for number, figure in enumerate(figures)]
    attributes = ("number", "state", "values" if len(plan.objectives) > 1 else "value", "params", "user_attrs")
    table = study.trials_dataframe(attributes).to_html(index=False, na_rep="", border=0)
    title = html.escape(study.study_name)
    head = f"<!doctype html><meta charset='utf-8'><title>{title}</title><h1>Study {title}</h1>"
    return "\n".join([head, *parts, table, ""])


def _write(changes: Mapping[str, Any], dry_run: bool, path: Path = Path("params.yaml")) -> None:
    """Show what would change in the settings file, and change it."""
    before = path.read_text()
    flat = settings_file.flatten(settings_file.load(path))
    after = settings_file.edited(before, {key: value for key, value in changes.items() if flat[key] != value})
    if after == before:
        print(f"{path}: has these settings already")
        return
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), str(path), str(path), n=0
    )
    print("".join(lines), end="")
    if dry_run:
        print(f"{path}: not changed (--dry-run)")
        return
    with replacing(path) as temporary:
        temporary.write_text(after)
    print(f"{path}: changed; dvc repro trains with it")
