"""The batch on which a training diverged, kept in a folder for inspection.

`failure-step-N` holds `failure.json` (why, where, losses, gradients) and `step.pt`: `parts`, the tensors that the step was
computed from, and `network`, the weights before it; `torch.load(..., weights_only=True)` reads it.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from overtone.data.corpus import replacing_folder
from overtone.errors import OvertoneError
from overtone.training import launch

if TYPE_CHECKING:
    from overtone.training.module import TaskModule

FAILURE = "failure.json"
STEP = "step.pt"
ADVICE = "try a lower learning_rate or clip_norm, or train.fit.precision=32-true"
_PREFIX = "failure-step-"


class DivergedError(OvertoneError):
    """A training that is past mending.

    Args:
        reason: what happened and what to do.
        folder: where the batch is kept; None where it is not.
    """

    def __init__(self, reason: str, folder: Path | None = None) -> None:
        super().__init__(f"{reason}; `overtone failure {folder}` shows more" if folder else reason)
        self.reason, self.folder = reason, folder


class FailureError(OvertoneError):
    """A folder that is no kept failure; the message names the file and what was expected."""


def kept(error: DivergedError, module: TaskModule, family: str, seed: int, checkpoints: Path) -> DivergedError:
    """The error with a folder of this process's share of the batch; without one where the disk refuses it."""
    trainer = module.trainer
    rank = trainer.global_rank
    target = checkpoints / f"{_PREFIX}{trainer.global_step}{f'-rank-{rank}' if rank else ''}"
    gradients = {
        name: float(weight.grad.float().norm())
        for name, weight in module.network.named_parameters()
        if weight.grad is not None
    }
    facts = {
        "reason": error.reason,
        "task": module.task.name,
        "family": family,
        "step": trainer.global_step,
        "rank": rank,
        "job": launch.job(),
        "seed": seed,
        "losses": [str(loss) for _, loss in module.parts],
        "gradient_norm": str(module.norm),
        "gradient_norms": {name: str(norm) for name, norm in gradients.items()},
    }
    content = {"parts": [tuple(batch) for batch, _ in module.parts], "network": module.network.state_dict()}
    try:
        with replacing_folder(target) as folder:
            torch.save(content, folder / STEP)
            (folder / FAILURE).write_text(json.dumps(facts, indent=2) + "\n")
    except OSError as refused:
        return DivergedError(f"{error.reason}; the batch could not be kept: {refused}")
    return DivergedError(error.reason, target)


def of_job(checkpoints: Path, job: str) -> DivergedError | None:
    """The error of a failure that a job's processes kept below a folder, of the first process."""
    found = []
    for path in checkpoints.glob(f"*/{_PREFIX}*/{FAILURE}") if job else ():
        with suppress(FailureError):
            facts = read(path.parent)
            if facts["job"] == job:
                found.append((facts["rank"], facts["reason"], path.parent))
    return DivergedError(*min(found)[1:]) if found else None


def read(folder: Path) -> dict[str, Any]:
    """What `failure.json` says.

    Raises:
        FailureError: no such file, or not of a failure.
    """
    path = folder / FAILURE
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FailureError(f"{path}: {error}; expected a folder {_PREFIX}N that a training left") from None
    if not isinstance(facts, dict) or not {"reason", "step", "job", "rank", "task", "family"} <= facts.keys():
        raise FailureError(f"{path}: expected what a training that diverged writes")
    return facts


def text(folder: Path) -> str:
    """What a person wants to know of a kept failure, and what to type next."""
    facts = read(folder)
    norms = {name: float(norm) for name, norm in facts["gradient_norms"].items()}
    bad = [name for name, norm in norms.items() if not math.isfinite(norm)]
    largest = sorted(norms, key=lambda name: norms[name], reverse=True)[:3]
    named = ", ".join(bad[:5] or largest)
    return "\n".join(
        (
            facts["reason"],
            f"loss {', '.join(facts['losses'])}; gradient norm {facts['gradient_norm']}",
            f"gradients that are not finite: {len(bad)} of {len(norms)} weights ({named})"
            if bad
            else f"largest: {named}",
            f"{folder / STEP}: the batch and the weights before the step",
            "train again with other settings, such as a lower learning rate:",
            f"  overtone stage train --model {facts['family']} --set train.{facts['task']}.learning_rate=...",
        )
    )
