"""Score the released models on the test split, beside the baselines: every condition and metric, and the bias by band.

python released/judge.py                    # needs work/pairs (dvc repro degrade); writes reports/released/
python released/judge.py --perceptual       # ViSQOL, PESQ and STOI too: the extra `perceptual`
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

from overtone import comparison, params, report
from overtone.data.pairs import read_pairs
from overtone.models import baselines
from overtone.registry import released
from overtone.upsample import Upsampler

ROOT = Path(__file__).parents[1]
PAIRS = ROOT / "work" / "pairs"
OUT = ROOT / "reports" / "released"
BANDS = ("bias_to_12k", "bias_12k_16k", "bias_16k_19k5", "bias_19k5_24k")
CHANGES = ("si_sdr", "snr", "visqol")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perceptual", action="store_true")
    options = parser.parse_args()
    settings = params.load(ROOT / "params.yaml").evaluate
    settings = settings.model_copy(update={"figures": 0, "perceptual": options.perceptual})
    makers: dict[str, Callable[[], report.Enhancer]] = {
        "sinc": baselines.Sinc,
        "sbr": baselines.SpectralBandReplication,
    }
    for kind in ("rnn", "cnn"):
        makers[kind] = functools.partial(Upsampler.load, released.fetch(f"released-{kind}", ROOT))
    pairs = read_pairs(PAIRS, "test")
    trees = {
        name: report.evaluate(name, maker, pairs, PAIRS, OUT / name, settings).metrics for name, maker in makers.items()
    }
    print(comparison.table(trees, by_kind=True))
    groups = {group: kinds for group, kinds in trees["sinc"].items() if isinstance(kinds, dict)}
    print(f"\n| condition | kind | model | {' | '.join(BANDS)} | {' | '.join(f'{name} - input' for name in CHANGES)} |")
    print(f"|---|---|---|{'---:|' * (len(BANDS) + len(CHANGES))}")
    for group, kinds in groups.items():
        for kind, before in kinds.items():
            for name in ("rnn", "cnn"):
                ours = trees[name][group][kind]
                values = [ours.get(band) for band in BANDS]
                values += [ours[key] - before[key] if key in ours and key in before else None for key in CHANGES]
                shown = " | ".join("-" if value is None else f"{value:+.2f}" for value in values)
                print(f"| {group} | {kind} | {name} | {shown} |")


if __name__ == "__main__":
    main()
