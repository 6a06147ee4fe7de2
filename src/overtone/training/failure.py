"""The batch on which a training diverged, kept in a folder for inspection, and the step taken again from it.

A folder `failure-step-N` holds `failure.json` (why, examples, losses, norms, activations), `batch.safetensors` (what the
step was computed from), `model/` (the network as it was then) and, where there was a checkpoint, `start/` (the network of
the best validation, to go on from).
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from overtone.data.crops import Crop
from overtone.errors import OvertoneError
from overtone.losses import DivergedError
from overtone.models import build
from overtone.params import FitParams, LossParams, Params
from overtone.training import diagnosis, launch
from overtone.training.module import UpsamplerModule
from overtone.training.watch import Part

FAILURE = "failure.json"
BATCH = "batch.safetensors"
MODEL = "model"
START = "start"
_FORMAT = 1
_PREFIX = "failure-step-"


class FailureError(OvertoneError):
    """A folder that is no kept failure; the message names the file and what was expected."""


@dataclass(frozen=True)
class Place:
    """Where in a training a step was: `step` and `epoch` count from 0, `rank` is the process."""

    step: int
    epoch: int
    rank: int
    world: int


def keep(
    error: DivergedError,
    module: UpsamplerModule,
    place: Place,
    examples: Sequence[int],
    checkpoints: Path,
    best: Path,
    params: Params,
    kind: build.Kind,
) -> Path:
    """Write a failure's folder, whole or not at all.

    Args:
        examples: numbers of the training examples of this process's share of the batch.
        checkpoints: folder in which the failure's is made; one of the same step is replaced.
        best: checkpoint of the best validation, if there is one.

    Returns:
        The folder.
    """
    target = checkpoints / f"{_PREFIX}{place.step}{f'-rank-{place.rank}' if place.rank else ''}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=checkpoints, prefix=".failure-"))
    try:
        settings = params.train.cnn if kind == "cnn" else params.train.rnn
        facts = _facts(error, module, place, examples, params)
        save_file(_joined([part.batch for part in module.watch.parts]), temporary / BATCH)
        build.save(module.network, temporary / MODEL, kind, settings)
        if best.is_file():
            module.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
            build.save(module.best_network, temporary / START, kind, settings)
        (temporary / FAILURE).write_text(json.dumps(_plain(facts), indent=2) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        temporary.chmod(0o755)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _facts(
    error: DivergedError, module: UpsamplerModule, place: Place, examples: Sequence[int], params: Params
) -> dict[str, Any]:
    watch = module.watch
    training = {"loss": params.train.loss, "fit": params.train.fit}
    return {
        "format": _FORMAT,
        "reason": error.reason,
        **asdict(place),
        "job": launch.job(),
        "seed": params.seed,
        "examples": list(examples),
        "losses": [float(part.loss) for part in watch.parts],
        "terms": [{name: float(value) for name, value in part.terms.items()} for part in watch.parts],
        "recent_losses": watch.recent,
        "gradient_norm": watch.norm,
        "gradient_norms": diagnosis.gradient_norms(module.network),
        "weight_norms": diagnosis.weight_norms(module.network),
        "activations": [asdict(one) for part in watch.parts[:1] for one in _activations(module, part)],
        "part": len(watch.parts[0].batch["input"]) if watch.parts else 0,
        **{name: value.model_dump(mode="json") for name, value in training.items()},
    }


def _activations(module: UpsamplerModule, part: Part) -> list[diagnosis.Activation]:
    device = next(module.network.parameters()).device
    names = ("input", "cutoff_hz", "restore", "concealed", "opened")
    return diagnosis.activations(module.network, *(cast(Any, part.batch)[name].to(device) for name in names))


def _joined(batches: Sequence[Crop]) -> dict[str, Tensor]:
    names = list(batches[0]) if batches else []
    return {name: torch.cat([cast(Any, batch)[name] for batch in batches]).cpu().contiguous() for name in names}


def _plain(value: Any) -> Any:
    """Numbers that JSON does not know become text: `nan`, `inf`, `-inf`."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def of_job(checkpoints: Path, job: str) -> DivergedError | None:
    """The error of a failure that a job's processes kept in a checkpoints folder, of the first process.

    For the process that started them: all of them come to the same verdict.
    """
    found: list[tuple[int, str, Path]] = []
    for folder in checkpoints.glob(f"{_PREFIX}*") if job else ():
        with suppress(FailureError):  # one of before that somebody emptied is none of this job's
            facts = read(folder)
            if facts.get("job") == job:
                found.append((int(facts["rank"]), str(facts["reason"]), folder))
    if not found:
        return None
    _, reason, kept = min(found)
    return DivergedError(reason, kept)


# --- afterwards ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replay:
    """A failed step taken again on the CPU in single precision.

    Attributes:
        losses: of each part of the step, as `losses` in `failure.json`.
        by_example: each example's number, its loss alone, and the term that contributes the most.
    """

    losses: list[float]
    by_example: list[tuple[int, float, str]]


def read(folder: Path) -> dict[str, Any]:
    """A failure's `failure.json`.

    Raises:
        FailureError: it is missing or not what `keep` writes.
    """
    path = folder / FAILURE
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        raise FailureError(f"{path}: no such file; expected a folder {_PREFIX}N of a training that diverged") from None
    except ValueError as error:
        raise FailureError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        raise FailureError(f"{path}: expected a kept failure of format {_FORMAT}")
    return facts


def replay(folder: Path) -> Replay:
    """Take the failed step again, without changing any weight.

    Raises:
        FailureError: the folder is not a whole failure.
        ModelError: nor its network.
    """
    facts = read(folder)
    try:
        batch = load_file(folder / BATCH)
    except (safetensors.SafetensorError, OSError) as error:
        raise FailureError(f"{folder / BATCH}: not the batch of a failure: {error}") from None
    network, config = build.load(folder / MODEL)
    settings = build.settings_of(config)
    loss, fit = LossParams.model_validate(facts["loss"]), FitParams.model_validate(facts["fit"])
    module = UpsamplerModule(network.train(), settings, loss, fit.model_copy(update={"average": 0.0}))
    step, count = int(facts["step"]), len(batch["input"]) if batch else 0

    def again(start: int, stop: int) -> tuple[float, dict[str, float]]:
        part = cast(Crop, {name: value[start:stop] for name, value in batch.items()})
        # As the training does for each part.
        torch.manual_seed((int(facts["seed"]) << 24) + step)
        with torch.no_grad():
            value, terms = module.loss_of(part, step)
        weights = loss.model_dump()
        return float(value), {name: weights[name] * float(term) for name, term in terms.items()}

    size = max(int(facts["part"]), 1)
    values = [again(start, start + size)[0] for start in range(0, count, size)]
    rows = []
    for index, number in enumerate(facts["examples"][:count]):
        value, terms = again(index, index + 1)
        worst = max(terms, key=lambda name: terms[name] if math.isfinite(terms[name]) else math.inf)
        rows.append((number, value, worst))
    return Replay(values, rows)


def text(folder: Path) -> str:
    """What a person wants to know of a kept failure, and what to type next."""
    facts, again = read(folder), replay(folder)
    lines = [
        f"step {facts['step']} (epoch {facts['epoch']}, process {facts['rank'] + 1} of {facts['world']}): {facts['reason']}",
        f"loss {_shown(facts['losses'])}, taken again {_shown(again.losses)}; before: {_shown(facts['recent_losses'][-8:])}",
        f"gradient norm {facts['gradient_norm']}",
    ]
    lines += _layers("activations with values that are no numbers", facts["activations"], lambda one: one["finite"] < 1)
    lines += _layers("dead layers", facts["activations"], lambda one: one["dead"] > 0.5)
    lines += _layers("saturated cells", facts["activations"], lambda one: one["saturated"] > 0.5)
    norms = sorted(facts["gradient_norms"].items(), key=lambda item: -_rank(item[1]))[:5]
    lines += [f"largest gradients: {', '.join(f'{name} {_short(value)}' for name, value in norms)}"] if norms else []
    lines.append("examples, the worst first (number, loss alone, largest term):")
    worst = sorted(again.by_example, key=lambda row: -_rank(row[1]))
    lines += [f"  {number:>8}  {_short(value):>10}  {term}" for number, value, term in worst[:8]]
    start = folder / START
    if start.is_dir():
        kind = json.loads((start / build.CONFIG).read_text())["model"]
        lines.append(
            "go on from the best validation with other settings, such as a lower learning rate:\n"
            f"  overtone stage train --model {kind} --set train.fit.start={start} --set train.{kind}.learning_rate=..."
        )
    else:
        lines.append("no epoch had ended: begin anew with other settings, such as a lower learning rate")
    return "\n".join(lines)


def _layers(title: str, rows: Sequence[dict[str, Any]], chosen: Any) -> list[str]:
    names = [row["layer"] for row in rows if chosen(row)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{title}: {', '.join(names[:3])}{more}"] if names else []


def _rank(value: Any) -> float:
    """For sorting: what is no number is the largest."""
    number = float(value)
    return number if math.isfinite(number) else math.inf


def _short(value: Any) -> str:
    return format(float(value), ".4g")


def _shown(values: Sequence[Any]) -> str:
    return ", ".join(map(_short, values)) or "none"
