"""A study: opened, checked against what it was begun with, and kept free of trials whose worker is dead."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, IntegrityError

from overtone.data import sources
from overtone.errors import OvertoneError
from overtone.settings import FAMILIES, flatten
from overtone.tracking import studies
from overtone.tuning import processes, space
from overtone.tuning.plan import Plan, TuningError, public

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# Settings of the machine, which change how fast a trial is and not what it comes to.
_MACHINE = {
    *("train.fit.threads", "train.fit.accelerator", "train.fit.devices", "train.fit.num_nodes", "train.fit.strategy"),
    *("train.fit.compile", "train.data.prepared", "train.data.source"),
}
_PATIENCE = 4  # heartbeats missed before a worker on another machine counts as killed
_UNCLAIMED = timedelta(minutes=1)  # a worker signs its trial at once
# What a call that died while it opened a study, on another machine, holds the others up.
_LEASE_SECONDS = 300.0
_LOOK_SECONDS = 0.2
_TABLE_TRIES = 50  # a new database gets a dozen tables, and another process may be at any of them


@contextlib.contextmanager
def opening(plan: Plan) -> Iterator[None]:
    """One call at a time opens a study, wherever it runs: those that begin together get one study and one MLflow run.

    Names of studies are unique in every kind of storage, so the one that can make the study `NAME.opening` has the turn;
    it is deleted afterwards.

    Raises:
        TuningError: the storage cannot be used.
    """
    with lock(plan, "open"):
        kept = storage(plan)
        with _told(plan):
            turn = _turn(kept, f"{plan.study}.opening")
        try:
            yield
        finally:
            # Another call may have taken the turn for dead.
            with contextlib.suppress(KeyError):
                kept.delete_study(turn)


def _turn(kept: BaseStorage, name: str) -> int:
    waited: dict[int, float] = {}
    while True:
        try:
            turn = kept.create_new_study([StudyDirection.MINIMIZE], name)
            kept.set_study_user_attr(turn, "holder", processes.this())
            return turn
        except optuna.exceptions.DuplicatedStudyError:
            pass
        with contextlib.suppress(KeyError):
            held = kept.get_study_id_from_name(name)
            since = waited.setdefault(held, time.monotonic())
            holder = kept.get_study_user_attrs(held).get("holder")
            if (holder and processes.gone(holder)) or time.monotonic() - since > _LEASE_SECONDS:
                # By its number, which no later turn has.
                kept.delete_study(held)
        time.sleep(_LOOK_SECONDS)


def open_study(plan: Plan) -> optuna.Study:
    """The study of a plan, begun if there is none; its first trial is then the present settings. Called in its `opening`.

    Raises:
        TuningError: the study was begun with other data, settings or a space that does not go with the present one.
    """
    present = space.present(plan.params, plan.space)
    directions: list[Literal["minimize", "maximize"]]
    directions = ["maximize" if name == "speed" else "minimize" for name in plan.objectives]
    store = storage(plan)
    with _told(plan):
        study = optuna.create_study(
            storage=store,
            study_name=plan.study,
            directions=directions,
            load_if_exists=True,
            sampler=_sampler(plan),
            pruner=_pruner(plan),
        )
    if [direction.name.lower() for direction in study.directions] != directions:
        raise TuningError(
            f"study {plan.study}: has {len(study.directions)} objectives, expected {len(directions)} "
            f"({', '.join(plan.objectives)}); give another --study"
        )
    now = identity(plan)
    if "identity" in study.user_attrs:
        _compare(plan.study, study.user_attrs["identity"], now)
    if study.user_attrs.get("identity") != now:
        study.set_user_attr("identity", now)
    if not with_settings(study, plan, present):
        study.enqueue_trial(space.enqueued(present), user_attrs={"settings": "present"})
    return study


def join_study(plan: Plan) -> optuna.Study:
    """The study of a plan that the calling process has opened."""
    store = storage(plan)
    return optuna.load_study(storage=store, study_name=plan.study, sampler=_sampler(plan), pruner=_pruner(plan))


def seed(study: optuna.Study, plan: Plan) -> None:
    """Make what the next trial draws at random a matter of its number: workers do not draw the same."""
    study.sampler = _sampler(plan, plan.params.seed + len(study.get_trials(deepcopy=False)))


def storage(plan: Plan) -> BaseStorage:
    """Where the study is kept.

    Raises:
        TuningError: it cannot be opened.
    """
    quiet()
    scheme, _, path = plan.storage.partition(":///")
    if scheme == "journal":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(path))
    if scheme.split("+")[0] == "sqlite":
        Path(path.partition("?")[0]).parent.mkdir(parents=True, exist_ok=True)
    try:
        return _relational(plan, scheme)
    except ImportError:
        raise TuningError(
            f"storage {public(plan.storage)}: its driver is missing; expected the extra `postgres` installed"
        ) from None
    except Exception as error:  # whatever the database's driver raises
        raise TuningError(f"storage {public(plan.storage)}: cannot be opened: {_first_line(error)}") from None


def _relational(plan: Plan, scheme: str) -> BaseStorage:
    beat = plan.params.tune.heartbeat
    # Several processes write: they wait for each other.
    engine = {"connect_args": {"timeout": 100}} if scheme.startswith("sqlite") else {"pool_pre_ping": True}
    left = _TABLE_TRIES
    while True:
        try:
            return RDBStorage(
                plan.storage,
                engine_kwargs=engine,
                heartbeat_interval=beat,
                grace_period=_PATIENCE * beat,
                heartbeat_stale_trial_callback=lambda study, trial: again(study, trial, plan.params.tune.retries),
            )
        except DBAPIError as error:
            left -= 1
            if not left or not _made_meanwhile(error):
                raise
        time.sleep(_LOOK_SECONDS)


def _made_meanwhile(error: DBAPIError) -> bool:
    """Whether another process made a table, or noted the schema's version, after Optuna had looked for it."""
    return isinstance(error, IntegrityError) or "already exists" in str(error.orig)


def quiet() -> None:
    """Optuna says only what is wrong; that heartbeats are experimental is known."""
    optuna.logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def identity(plan: Plan) -> dict[str, Any]:
    """What must stay the same for trials to be compared: the data, the space, and all other settings of a training."""
    try:
        data = sources.recognise(plan.source).identity()
    except OvertoneError as error:
        raise TuningError(str(error)) from None
    others = (f"train.{family}." for family in FAMILIES if family != plan.kind)
    left_out = (*(f"{name}." for name in ("corpus", "degrade", "evaluate", "register")), *others)
    flat = flatten(plan.params)
    base = {
        key: value
        for key, value in flat.items()
        if not key.startswith(left_out) and key not in _MACHINE and key not in plan.space
    }
    return {
        "model": plan.kind,
        "task": plan.task,
        "data": hashlib.sha256(data).hexdigest(),
        "space": {key: dimension.model_dump(mode="json") for key, dimension in plan.space.items()},
        "settings": base,
    }


def _compare(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    def refuse(what: str, before: Any, after: Any) -> None:
        raise TuningError(
            f"study {name}: was begun with {what} {before}, expected the same and not {after}; give another --study"
        )

    if then["model"] != now["model"]:
        refuse("model", then["model"], now["model"])
    if then["task"] != now["task"]:
        refuse("tune.task", then["task"], now["task"])
    if then["data"] != now["data"]:
        refuse("the data of digest", then["data"][:12], now["data"][:12])
    for key in {**then["space"], **now["space"]}:
        before, after = then["space"].get(key), now["space"].get(key)
        if before is None or after is None:
            refuse(f"tune.space {key}", before or "not searched", after or "not searched")
        # Limits may be moved, what kind of number or choice it is may not.
        fixed = [{field: one.get(field) for field in ("type", "log", "choices")} for one in (before, after)]
        if fixed[0] != fixed[1]:
            refuse(f"tune.space {key}", before, after)
    for key in {**then["settings"], **now["settings"]}:
        before, after = (tree["settings"].get(key) for tree in (then, now))
        if before != after:
            refuse(key, before, after)


def _sampler(plan: Plan, seed: int | None = None) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(n_startup_trials=plan.params.tune.random_trials, seed=seed)


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    tune = plan.params.tune
    return optuna.pruners.MedianPruner(n_startup_trials=tune.prune_after_trials, n_warmup_steps=tune.prune_after_epochs)


# --- whose trial it is ------------------------------------------------------------------------------------------------


def lock(plan: Plan, purpose: str) -> FileLock:
    """Keeps processes of this clone from doing the same at once."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    return FileLock(plan.folder / f"{purpose}.lock", timeout=600)


def sign(trial: optuna.Trial, call: str) -> None:
    """Say which process works on a trial."""
    trial.set_user_attr("worker", processes.this() | {"call": call})


def of_call(study: optuna.Study, call: str, states: tuple[TrialState, ...] = FINISHED) -> list[FrozenTrial]:
    """The trials that a call's workers took, in these states."""
    trials = study.get_trials(deepcopy=False, states=states)
    return [trial for trial in trials if trial.user_attrs.get("worker", {}).get("call") == call]


def reap(study: optuna.Study, retries: int) -> list[FrozenTrial]:
    """Fail trials whose worker, a process of this machine, is dead, and have them tried again.

    Returns:
        The trials that were failed.
    """
    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _dead(trial):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, RuntimeError):  # another process was quicker
                continue
            again(study, trial, retries)
            found.append(trial)
    return found


def again(study: optuna.Study, trial: FrozenTrial, retries: int) -> None:
    """Have the settings of an interrupted trial tried again, unless that was done `retries` times; end its MLflow run."""
    if run_id := trial.user_attrs.get("run_id"):
        studies.close_trial(run_id)
    tried = trial.user_attrs.get("retry", 0)
    if tried < retries:
        kept = {name: trial.user_attrs[name] for name in ("settings",) if name in trial.user_attrs}
        study.enqueue_trial(dict(_drawn(trial)), user_attrs={**kept, "retry": tried + 1, "retry_of": trial.number})


def _dead(trial: FrozenTrial) -> bool:
    worker = trial.user_attrs.get("worker")
    if worker is None:
        return trial.datetime_start is not None and datetime.now() - trial.datetime_start > _UNCLAIMED
    return processes.gone(worker)


# --- what it came to --------------------------------------------------------------------------------------------------


def with_settings(study: optuna.Study, plan: Plan, wanted: Mapping[str, Any]) -> list[FrozenTrial]:
    """Trials of these settings, finished, under way or waiting."""
    states = (*FINISHED, TrialState.RUNNING, TrialState.WAITING)
    found = study.get_trials(deepcopy=False, states=states)
    return [trial for trial in found if space.settings(_drawn(trial), plan.space, wanted) == wanted]


def _drawn(trial: FrozenTrial) -> Mapping[str, Any]:
    return trial.params or trial.system_attrs.get("fixed_params", {})


def best(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial of the best quality; of equals the first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(complete, key=lambda trial: trial.values[0], default=None)


@contextlib.contextmanager
def _told(plan: Plan) -> Iterator[None]:
    try:
        yield
    except TuningError:
        raise
    except Exception as error:
        raise TuningError(f"storage {public(plan.storage)}: cannot be used: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
