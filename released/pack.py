"""Make a released model of a trained one: weights in half precision, and a run.json that says where it comes from.

    python released/pack.py models/rnn released/rnn --corpus work/corpus --pairs work/pairs --earlier models/first

Then `dvc add released/rnn` and `dvc push released/rnn.dvc`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from overtone.models.folder import WEIGHTS, read_config
from overtone.models.model import Model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", type=Path, required=True, help="that it was trained on")
    parser.add_argument("--pairs", type=Path, required=True, help="that it was trained on")
    parser.add_argument("--earlier", type=Path, help="model folder that the training started from")
    options = parser.parse_args()
    model = Model.load(options.trained)
    training = without_place(model.config["train"])
    options.out.mkdir(parents=True, exist_ok=True)
    model.save(options.out, dtype=torch.float16, facts={"train": training})
    shutil.copyfile(options.trained / "history.csv", options.out / "history.csv")
    lineage: dict[str, Any] = {
        "commit": commit(),
        "pairs_sha256": digest(options.pairs / "manifest.csv"),
        "corpus_sha256": digest(options.corpus / "manifest.csv"),
        "training_seconds_by_source": sources(options.corpus / "manifest.csv"),
        "steps": last_step(options.trained / "history.csv"),
        "parameters": model.parameters,
    }
    if options.earlier:
        before = read_config(options.earlier)
        lineage["started_from"] = {
            "weights_sha256": digest(options.earlier / WEIGHTS),
            "steps": last_step(options.earlier / "history.csv"),
            "train": without_place(before["train"]),
        }
    (options.out / "run.json").write_text(json.dumps(lineage, indent=2, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out}: {size / 1e6:.1f} MB, {lineage['parameters'] / 1e6:.2f} M parameters")


def without_place(train: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training without where its start lay: that says nothing to anybody else, and its digest is kept."""
    return train | {"fit": train["fit"] | {"start": None}}


def sources(manifest: Path) -> dict[str, float]:
    """Seconds of training audio by source."""
    seconds: dict[str, float] = defaultdict(float)
    with manifest.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] == "train":
                seconds[row["source"]] += float(row["seconds"])
    return {name: round(value, 1) for name, value in sorted(seconds.items())}


def last_step(history: Path) -> int | None:
    """The optimiser step of a training's best validation, None where its history is not there."""
    if not history.is_file():
        return None
    with history.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("valid_lsd")]
    return int(float(min(rows, key=lambda row: float(row["valid_lsd"]))["step"]))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
