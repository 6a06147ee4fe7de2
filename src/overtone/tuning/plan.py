"""What one call of `overtone tune` is to do, in a form that its processes are given."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from overtone import settings as settings_file
from overtone.errors import OvertoneError
from overtone.settings import Params, Settings
from overtone.tracking.address import absolute, is_database, public_uri

STORAGE = "OVERTONE_TUNE_STORAGE"
# What launchers say of a process among many; the last one is torchrun's.
_LAUNCHED = ("RANK", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID")
WORK = Path("work/tune")


class TuningError(OvertoneError):
    """A search that cannot be done or continued; the message names what and what was expected."""


class Plan(Settings):
    """One call: `goal` more finished trials of a study.

    Args:
        kind: family of the networks.
        call: names this call; its trials carry it.
        workers: processes at a time.
        source: where the training data is.
        params: settings of a trial, but for what is searched.
        parent: MLflow run of the study.
    """

    kind: str
    study: str
    storage: str
    call: str
    goal: int
    workers: int
    source: str
    params: Params
    parent: str = ""

    @property
    def folder(self) -> Path:
        """Where its trials put what they need while they run."""
        return WORK / self.study

    @property
    def space(self) -> dict[str, settings_file.Dimension]:
        """The space of the family, without what belongs to the other network."""
        other = "restore" if self.task == "extend" else "extend"
        foreign = f"train.{other}.", f"train.{self.kind}.{other}."
        return {key: one for key, one in self.params.tune.space[self.kind].items() if not key.startswith(foreign)}

    @property
    def task(self) -> str:
        """Which of the two networks is trained."""
        return self.params.tune.task

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.params.tune.objectives


def require_first_process() -> None:
    """Refuse to be one process of a launcher's many: trials would be drawn in each.

    Raises:
        TuningError: a launcher has started this process.
    """
    for name in _LAUNCHED:
        if os.environ.get(name, "0") != "0":
            raise TuningError(f"{name}={os.environ[name]}: expected one process; a search starts its others by itself")


def plan(
    params: Params,
    kind: str,
    source: Path | str,
    trials: int | None = None,
    workers: int | None = None,
    storage: str | None = None,
    study: str | None = None,
    speed: bool = False,
) -> Plan:
    """What a call asks for; what it leaves out is taken from `params.tune`."""
    tune = params.tune
    if speed:
        tune = tune.model_copy(update={"objectives": ("quality", "speed")})
    changes = {f"train.{tune.task}.steps": tune.steps, "train.fit.epoch_steps": tune.epoch_steps}
    suffix = "-speed" if "speed" in tune.objectives else ""
    return Plan(
        kind=kind,
        study=study or f"{tune.study}-{kind}-{tune.task}{suffix}",
        storage=resolved(storage or os.environ.get(STORAGE) or tune.storage),
        call=uuid.uuid4().hex[:12],
        goal=tune.trials if trials is None else trials,
        workers=tune.workers if workers is None else workers,
        source=str(source),
        params=settings_file.changed(params.model_copy(update={"tune": tune}), changes),
    )


def resolved(url: str) -> str:
    """A database's URL, the path of an SQLite file taken from the project's root."""
    _, separator, rest = url.partition("://")
    if not separator or not is_database(url) or (is_database(url, "sqlite") and not rest.strip("/")):
        raise TuningError(f"storage {public_uri(url)!r}: expected sqlite:///FILE or postgresql://USER@HOST/NAME")
    return absolute(url)
