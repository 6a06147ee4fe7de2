"""Make a released model of trained networks: weights in half precision, ONNX graphs, and a run.json with their origin.

    python released/pack.py rnn OUT/extend-rnn.safetensors OUT/restore-rnn.safetensors released/rnn --index CORPUS/index.csv

Then `dvc add released/rnn` and `dvc push released/rnn.dvc`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from overtone import settings as params
from overtone.models import graphs
from overtone.models.model import Model

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=params.FAMILIES)
    parser.add_argument("extend", type=Path)
    parser.add_argument("restore", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--index", type=Path, required=True, help="of the corpus that they were trained on (gather.py)")
    parser.add_argument(
        "--heard", nargs=2, type=float, required=True, metavar="HOURS", help="of audio, by extend and restore"
    )
    options = parser.parse_args()
    settings = params.load(ROOT / "params.yaml")
    model = Model.untrained(options.family, getattr(settings.train, options.family), settings.corpus.rate)
    model.extend.load_state_dict(load_file(options.extend))
    model.restore.load_state_dict(load_file(options.restore))
    options.out.mkdir(parents=True, exist_ok=True)
    training = settings.train.model_dump(mode="json", exclude={*params.FAMILIES, "data"})
    model.save(options.out, dtype=torch.float16, facts={"train": {"seed": settings.seed, **training}})
    graphs.export(options.out)
    rows = [path.with_suffix(".csv") for path in (options.extend, options.restore)]
    (options.out / "history.csv").write_text(history([path for path in rows if path.is_file()]))
    lineage: dict[str, Any] = {
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "corpus_sha256": hashlib.sha256(options.index.read_bytes()).hexdigest(),
        "training_seconds_by_source": sources(options.index),
        "hours_heard": dict(zip(("extend", "restore"), options.heard, strict=True)),
        "parameters": model.parameters,
    }
    (options.out / "run.json").write_text(json.dumps(lineage, indent=2, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out}: {size / 1e6:.1f} MB, {model.parameters / 1e6:.2f} M weights")


def history(paths: list[Path]) -> str:
    """The validation curves of both networks as one table, in the columns of a trained model's `history.csv`."""
    lines = ["task,epoch,step,minutes,valid"]
    for path in paths:
        with path.open(newline="") as file:
            for epoch, row in enumerate(csv.reader(list(file)[1:])):
                lines.append(f"{row[0]},{epoch},{row[1]},{row[2]},{float(row[3]):.6g}")
    return "\n".join(lines) + "\n"


def sources(index: Path) -> dict[str, float]:
    """Seconds by source."""
    total: dict[str, float] = defaultdict(float)
    with index.open(newline="") as file:
        for row in csv.DictReader(file):
            total[row["source"]] += float(row["seconds"])
    return {name: round(seconds, 1) for name, seconds in sorted(total.items())}


if __name__ == "__main__":
    main()
