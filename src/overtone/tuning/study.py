"""A study in its database: opened, compared with what it was begun with, and its interrupted trials tried again."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from overtone.data import sources
from overtone.errors import OvertoneError
from overtone.settings import FAMILIES, flatten
from overtone.tracking import studies
from overtone.tracking.address import public_uri
from overtone.tuning import space
from overtone.tuning.plan import Plan, TuningError

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# Settings of the machine, which change how fast a trial is and not what it comes to.
_MACHINE = {
    *("train.fit.threads", "train.fit.accelerator", "train.fit.devices", "train.fit.num_nodes", "train.fit.strategy"),
    *("train.fit.compile", "train.data.prepared", "train.data.source"),
}
_PATIENCE = 4  # heartbeats missed before a trial's process counts as dead


def lock(plan: Plan) -> FileLock:
    """Held while a study is opened: calls that begin together in a project get one study and one MLflow run."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    return FileLock(plan.folder / "open.lock", timeout=600)


def open_study(plan: Plan) -> optuna.Study:
    """The study of a plan, begun if there is none; its first trial is then the present settings.

    Raises:
        TuningError: the study was begun with other data, settings or a space that does not go with the present one.
    """
    present = space.present(plan.params, plan.space)
    directions: list[Literal["minimize", "maximize"]]
    directions = ["maximize" if name == "speed" else "minimize" for name in plan.objectives]
    study = optuna.create_study(
        storage=storage(plan),
        study_name=plan.study,
        directions=directions,
        load_if_exists=True,
    )
    if [direction.name.lower() for direction in study.directions] != directions:
        raise TuningError(
            f"study {plan.study}: has {len(study.directions)} objectives, expected {len(directions)} "
            f"({', '.join(plan.objectives)}); give another --study"
        )
    now = identity(plan)
    then = study.user_attrs.setdefault("identity", now)
    for key in {**then, **now}:
        if then.get(key) != now.get(key):
            raise TuningError(
                f"study {plan.study}: was begun with {key} {then.get(key)}, expected the same and not {now.get(key)}; "
                "give another --study"
            )
    study.set_user_attr("identity", now)
    if not with_settings(study, plan, present):
        study.enqueue_trial(space.enqueued(present), user_attrs={"settings": "present"})
    return study


def join_study(plan: Plan, seed: int) -> optuna.Study:
    """The study of a plan that another process has opened, with a sampler of this seed."""
    tune = plan.params.tune
    sampler = optuna.samplers.TPESampler(n_startup_trials=tune.random_trials, seed=seed)
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=tune.prune_after_trials, n_warmup_steps=tune.prune_after_epochs
    )
    return optuna.load_study(storage=storage(plan), study_name=plan.study, sampler=sampler, pruner=pruner)


def storage(plan: Plan) -> RDBStorage:
    """The database of the study. A trial whose process stops its heartbeat fails and is tried again.

    Raises:
        TuningError: it cannot be opened.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    # That heartbeats are experimental is known.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    local = plan.storage.startswith("sqlite")
    if local:
        Path(plan.storage.partition(":///")[2].partition("?")[0]).parent.mkdir(parents=True, exist_ok=True)
    beat = plan.params.tune.heartbeat
    try:
        return RDBStorage(
            plan.storage,
            # Several processes write: they wait for each other.
            engine_kwargs={"connect_args": {"timeout": 100}} if local else {"pool_pre_ping": True},
            heartbeat_interval=beat,
            grace_period=_PATIENCE * beat,
            heartbeat_stale_trial_callback=lambda study, trial: retry(study, trial, plan),
        )
    except ImportError:
        raise TuningError(
            f"storage {public_uri(plan.storage)}: its driver is missing; expected the extra `postgres` installed"
        ) from None
    except Exception as error:  # whatever the database's driver raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TuningError(f"storage {public_uri(plan.storage)}: cannot be opened: {reason}") from None


def retry(study: optuna.Study, trial: FrozenTrial, plan: Plan) -> None:
    """Have an interrupted trial tried again, unless that was done `tune.retries` times; end its MLflow run."""
    if run_id := trial.user_attrs.get("run_id"):
        studies.close_trial(run_id)
    RetryHeartbeatStaleTrialCallback(max_retry=plan.params.tune.retries)(study, trial)


def identity(plan: Plan) -> dict[str, Any]:
    """What must stay the same for trials to be compared: the data, the space, and all other settings of a training."""
    try:
        data = sources.recognise(plan.source).identity()
    except OvertoneError as error:
        raise TuningError(str(error)) from None
    others = (f"train.{family}." for family in FAMILIES if family != plan.kind)
    left_out = (*(f"{name}." for name in ("corpus", "degrade", "evaluate", "register")), *others)
    facts: dict[str, Any] = {"model": plan.kind, "tune.task": plan.task, "data": hashlib.sha256(data).hexdigest()[:16]}
    # Limits may be moved; what kind of number or choice it is may not.
    fixed = {"type", "log", "choices"}
    facts |= {f"tune.space {key}": one.model_dump(mode="json", include=fixed) for key, one in plan.space.items()}
    return facts | {
        key: value
        for key, value in flatten(plan.params).items()
        if not key.startswith(left_out) and key not in _MACHINE and key not in plan.space
    }


# --- trials -----------------------------------------------------------------------------------------------------------


def of_call(study: optuna.Study, call: str, states: tuple[TrialState, ...] = FINISHED) -> list[FrozenTrial]:
    """The trials of a call, in these states."""
    trials = study.get_trials(deepcopy=False, states=states)
    return [trial for trial in trials if trial.user_attrs.get("call") == call]


def with_settings(study: optuna.Study, plan: Plan, wanted: Mapping[str, Any]) -> list[FrozenTrial]:
    """Trials of these settings, finished, under way or waiting."""
    found = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING, TrialState.WAITING))
    drawn = [(trial, trial.params or trial.system_attrs.get("fixed_params", {})) for trial in found]
    return [trial for trial, params in drawn if space.settings(params, plan.space, wanted) == wanted]


def best(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial of the best quality; of equals the first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(complete, key=lambda trial: trial.values[0], default=None)
