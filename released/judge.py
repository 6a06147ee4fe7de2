"""Score the released models on the test split, beside the baselines: every condition and metric, as a user would run them.

python released/judge.py                    # needs work/pairs (dvc repro degrade); writes reports/released/
python released/judge.py --perceptual       # PESQ and STOI too: the extra `perceptual`
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

from overtone import settings as params
from overtone.data.pairs import read_pairs
from overtone.enhance.upsampler import Upsampler
from overtone.evaluation import report, table
from overtone.evaluation.judge import Enhancer, judge
from overtone.evaluation.systems import BASELINES
from overtone.registry import released

ROOT = Path(__file__).parents[1]
PAIRS = ROOT / "work" / "pairs"
OUT = ROOT / "reports" / "released"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perceptual", action="store_true")
    options = parser.parse_args()
    settings = params.load(ROOT / "params.yaml").evaluate
    settings = settings.model_copy(update={"figures": 0, "perceptual": options.perceptual})
    makers: dict[str, Callable[[], Enhancer]] = {name: BASELINES[name] for name in settings.baselines}
    for kind in released.KINDS:
        makers[kind] = functools.partial(Upsampler.load, released.fetch(f"released-{kind}", ROOT))
    pairs = read_pairs(PAIRS, "test")
    test_set = report.fingerprint(pairs, PAIRS)
    trees = {
        name: report.write(judge(name, maker, pairs, PAIRS, settings), test_set, OUT / name)
        for name, maker in makers.items()
    }
    print(table.figures(trees), table.table(trees), sep="\n\n")


if __name__ == "__main__":
    main()
