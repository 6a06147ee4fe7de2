"""What became of settings from version to version: what to write where an older `params.yaml` no longer fits.

A setting that is renamed or removed gets a row in `GONE`, one that is new and has no default a row in `NEW`. Nothing is
changed silently: a file that says something else than it did when it was written is worse than one that is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

# Old key -> what to write now. A part of the tree stands for all that was in it.
GONE: dict[str, str] = {
    "train.loss": "each network has its own loss now: train.restore.loss, train.restore.snr_weight",
    "train.fit.clip_norm": "write train.extend.clip_norm and train.restore.clip_norm",
    "train.data.batch": "write train.extend.batch and train.restore.batch",
    "train.data.crop_seconds": "write train.extend.frames and train.restore.seconds",
    "train.data.redraw": "training mixes everything afresh; see train.extend.ranges and train.restore.mixing",
    "train.data.workers": "batches are made by a thread of the training process",
    **{
        f"train.{family}.{name}": f"write train.extend.{name} and train.restore.{name}"
        for family in ("cnn", "rnn")
        for name in ("steps", "learning_rate")
    },
    **{
        f"train.{family}.{name}": f"each network has a body of its own: train.{family}.extend and train.{family}.restore"
        for family in ("cnn", "rnn")
        for name in (
            *("width", "dropout", "phase", "depths", "kernel", "expansion", "pooling"),
            *("cell", "hidden", "layers", "bidirectional"),
        )
    },
    **{
        f"degrade.{name}": "training makes its own degradations now: train.extend.ranges and train.restore.mixing"
        for name in ("views", "extend_share", "target", "narrowband", "damage")
    },
    "degrade.valid_conditions": "leave it out: valid and test are judged under all of degrade.conditions",
    "register.bootstrap": "leave it out: the gate goes by a 95 % interval over test sources, which has no settings",
}

# New key -> (value that keeps what the line did before, what it is). Keys of one table of settings follow each other.
NEW: dict[str, tuple[str, str]] = {
    "degrade.clips": ("3", "how many clips of each source are judged"),
    "degrade.seconds": ("6.0", "how much of each of those clips"),
    "evaluate.visqol": ("[]", "ViSQOL of no condition"),
    "train.fit.num_nodes": ("auto", "one machine unless a launcher says otherwise"),
    "train.fit.strategy": ("auto", "one process"),
    "train.fit.accumulate": ("1", "the batch is computed at once"),
    "train.fit.compile": ("false", "no torch.compile"),
    "train.fit.start": ("null", "training begins anew"),
    "train.extend": ("{...}", "copy the part from the params.yaml of this version"),
    "train.restore": ("{...}", "copy the part from the params.yaml of this version"),
    **{
        f"train.{family}.{task}": ("{...}", "copy the part from the params.yaml of this version")
        for family in ("cnn", "rnn")
        for task in ("extend", "restore")
    },
    "tune.task": ("extend", "the network that is searched for"),
    "tune": ("{...}", "copy the whole part from the params.yaml of this version; no stage depends on it"),
}


def instead(key: str, known: Collection[str]) -> str:
    """What to write instead of a setting that there is not, as the end of a sentence; empty where nobody knows.

    Args:
        key: dotted.
        known: dotted keys of all settings and tables of settings that there are.
    """
    for old, now in GONE.items():
        if key == old or key.startswith(f"{old}."):
            return f"; {now}"
    near = _near(key, known)
    return f"; did you mean {near}?" if near else ""


def missing(key: str) -> str:
    """What to say of a setting that a file lacks."""
    if key not in NEW:
        return "missing; docs/settings.md says what it is"
    value, meaning = NEW[key]
    return f"missing, since settings of older versions did not have it; write {key.rpartition('.')[2]}: {value} ({meaning})"


def _near(key: str, known: Collection[str]) -> str | None:
    """The setting that was most likely meant: the same name elsewhere, or one like it in the same table."""
    table, _, name = key.rpartition(".")
    if same := sorted(other for other in known if other.rpartition(".")[2] == name):
        return " or ".join(same[:3])
    beside = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == table}
    found = difflib.get_close_matches(name, beside, n=1)
    return beside[found[0]] if found else None
