"""A call of `overtone tune` from its plan to the winner's settings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from overtone.audio import replacing
from overtone.tracking.studies import StudyRun
from overtone.tuning import page, space, workers
from overtone.tuning import study as studies
from overtone.tuning.plan import Plan, TuningError, public

Said = Callable[[str], None]


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


def search(plan: Plan, reports: Path, chosen: int | None = None, said: Said = print) -> Result:
    """Run the trials of a call, then plot the study and choose from it.

    Args:
        reports: folder for the study's page.
        chosen: number of the trial to choose, in place of the one of best quality.
        said: gets a line for each finished trial and what else happens.

    Raises:
        TuningError: the study cannot be continued, the workers keep dying, or there is no complete trial `chosen`.
    """
    with contextlib.ExitStack() as stack:
        with studies.lock(plan):
            study = studies.open_study(plan)
            if chosen is not None:
                _complete(study, chosen)
            run = stack.enter_context(_study_run(plan, study))
            study.set_user_attr("run_id", run.run_id)
        optuna.storages.fail_stale_trials(study)
        plan = plan.model_copy(update={"parent": run.run_id})
        try:
            if plan.goal:
                before = len(study.get_trials(deepcopy=False, states=studies.FINISHED))
                said(
                    f"study {plan.study}: {before} trials finished, {plan.goal} more by {plan.workers} "
                    f"worker{'s' if plan.workers > 1 else ''}, run {run.run_id}"
                )
                workers.run(plan, study, lambda trial: said(line(trial, plan)), said)
        except (KeyboardInterrupt, SystemExit):
            said(f"interrupted; the same command continues study {plan.study}")
            raise
        finally:
            result = _conclude(plan, study, run, reports, chosen)
    return result


def _study_run(plan: Plan, study: optuna.Study) -> StudyRun:
    """The MLflow run of the study, new or that of earlier calls."""
    tags = {
        "tune.study": plan.study,
        "model": plan.kind,
        "tune.objectives": ", ".join(plan.objectives),
        "tune.storage": public(plan.storage),
        "tune.data": study.user_attrs["identity"]["data"][:12],
    }
    tune = plan.params.tune.model_dump(mode="json", exclude={"space", "storage", "study", "trials", "workers"})
    searched = {f"space.{key}": dimension.model_dump(mode="json") for key, dimension in plan.space.items()}
    params = {f"tune.{key}": value for key, value in (tune | searched).items()}
    return StudyRun(plan.study, study.user_attrs.get("run_id"), tags, params)


def line(trial: FrozenTrial, plan: Plan) -> str:
    """A finished trial in a line: number, state, values, settings."""
    values = [
        f"{page.NAMES[name]} {value:.4f}" for name, value in zip(plan.objectives, trial.values or [], strict=False)
    ]
    drawn = space.settings(trial.params, plan.space, space.present(plan.params, plan.space))
    reason = trial.user_attrs.get("reason")
    words = [trial.state.name.lower(), *values, *([reason] if reason else [])]
    return f"trial {trial.number}: {', '.join(words)}; {shown(drawn)}"


def shown(settings: Mapping[str, Any]) -> str:
    """Settings in a line, under the last part of their names."""
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in settings.items())


def _complete(study: optuna.Study, number: int) -> FrozenTrial:
    found = [
        trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if trial.number == number
    ]
    if not found:
        raise TuningError(f"study {study.study_name}: has no complete trial {number}")
    return found[0]


def _conclude(plan: Plan, study: optuna.Study, run: StudyRun, reports: Path, chosen: int | None) -> Result:
    present = space.present(plan.params, plan.space)
    winner = studies.best(study) if chosen is None else _complete(study, chosen)
    settings = space.settings(winner.params, plan.space, present) if winner else {}
    values = dict(zip(plan.objectives, winner.values, strict=True)) if winner else {}
    path = reports / f"{plan.study}.html"
    with replacing(path) as temporary:
        number = winner.number if winner else None
        temporary.write_text(page.page(study, plan.objectives, plan.space, present, number))
    files = [path]
    tags = {}
    if winner:
        files.append(reports / f"{plan.study}.json")
        facts = {"study": plan.study, "trial": winner.number, **values, "settings": settings}
        with replacing(files[-1]) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n")
        tags = {"tune.best_trial": str(winner.number), "tune.best_run": winner.user_attrs.get("run_id", "")}
    run.log(_points(plan, study), files, tags)
    same = [trial for trial in studies.with_settings(study, plan, present) if trial.state == TrialState.COMPLETE]
    return Result(
        winner.number if winner else None, values, settings, min((t.values[0] for t in same), default=None), path
    )


def _points(plan: Plan, study: optuna.Study) -> list[tuple[str, float, int]]:
    """The objectives of this call's complete trials over their numbers, and the best quality until then."""
    mine = {trial.number for trial in studies.of_call(study, plan.call, (TrialState.COMPLETE,))}
    points = []
    best = float("inf")
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        best = min(best, trial.values[0])
        if trial.number in mine:
            points += [(name, value, trial.number) for name, value in zip(plan.objectives, trial.values, strict=True)]
            points.append(("best_quality", best, trial.number))
    return points
