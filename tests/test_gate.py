"""Laws of the gate: the statistic is the reported one, a sure gain passes, noise and single clips never do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from overtone.data.pairs import Pair
from overtone.evaluation import report
from overtone.evaluation.judge import Row as Judged
from overtone.params import BootstrapParams, RegisterParams
from overtone.registry import gate, statistics
from overtone.registry.statistics import Row
from overtone.tracking.store import TrackingError

METRIC = "overall.all.lsd"
PARAMS = BootstrapParams()
CONDITIONS = {"sinc_8k": "extend", "sinc_16k": "extend", "mp3": "restore"}


def rows(score: Callable[[int, str], float], clips: int = 24, sources: int = 8) -> list[Row]:
    """The clips' scores by number and condition; a third of the sources is music, which has no MP3."""
    return [
        Row(condition, mode, kind, f"s{clip % sources}", f"c{clip}", {"lsd": score(clip, condition)})
        for condition, mode in CONDITIONS.items()
        for clip in range(clips)
        for kind in ["music" if clip % sources % 3 == 0 else "speech"]
        if (kind, condition) != ("music", "mp3")
    ]


def noise(seed: int, scale: float) -> Callable[[int, str], float]:
    drawn = np.random.default_rng(seed).normal(0.0, scale, (10_000, len(CONDITIONS)))
    return lambda clip, condition: 1.0 + float(drawn[clip, list(CONDITIONS).index(condition)])


def gained(before: list[Row], after: list[Row], seed: int = 1, path: str = METRIC) -> statistics.Gain:
    found = statistics.gain(before, after, path, "lower", PARAMS, seed)
    assert found is not None
    return found


def passes(before: list[Row], after: list[Row], **settings: float) -> tuple[bool, str]:
    params = RegisterParams(name="m", metric=METRIC, better="lower", **settings)  # type: ignore[arg-type]
    means = [{METRIC: value} for one in (after, before) if (value := statistics.mean(one, METRIC)) is not None]
    return gate.verdict(gate.compare(means[0], means[1], params, after, before, seed=1))


@pytest.mark.parametrize(
    "path", [METRIC, "extend.speech.lsd", "restore.all.lsd", "sinc_8k.music.lsd", "extend.all.lsd"]
)
def test_statistic_is_what_metrics_json_reports(path: str) -> None:
    made = rows(noise(3, 0.3))
    pairs = [
        Judged(
            Pair(
                pair=f"{row.condition}-{row.clip}", split="test", condition=row.condition, mode=row.mode, kind=row.kind,  # type: ignore[arg-type]
                source=row.source, clip=row.clip, input="", target="", channels=1, frames=1, rate=1, input_rate=1,
                cutoff_hz=1.0, bandwidth_hz=1.0, recipe="{}",
            ),
            dict(row.scores),
        )
        for row in made
    ]  # fmt: skip
    assert statistics.mean(made, path) == pytest.approx(gate.value(report.summarise(pairs)[0], path), abs=1e-6)
    assert gained(made, rows(noise(4, 0.3)), path=path).mean == pytest.approx(
        (statistics.mean(made, path) or 0) - (statistics.mean(rows(noise(4, 0.3)), path) or 0)
    )


def test_metric_that_no_clip_has_gives_no_figure() -> None:
    made = rows(noise(0, 0.1))
    for path in ("mp3.music.lsd", "overall.all.snr", "other.all.lsd", "lsd"):
        assert statistics.mean(made, path) is None
        assert statistics.gain(made, made, path, "lower", PARAMS, 1) is None


def test_same_scores_are_no_gain() -> None:
    made = rows(noise(0, 0.3))
    assert gained(made, made) == statistics.Gain(0.0, 0.0, clips=24, sources=8)
    passed, reason = passes(made, made)
    assert not passed
    assert "does not beat the champion, gain not surely above 0" in reason


def test_gain_on_every_clip_passes() -> None:
    before, change = noise(1, 0.3), noise(2, 0.01)
    after = rows(lambda clip, condition: before(clip, condition) - 0.06 + change(clip, condition) - 1.0)
    passed, reason = passes(rows(before), after, margin=0.05, samples=24)
    assert passed, reason
    assert not passes(rows(before), after, margin=0.07)[0]


@pytest.mark.parametrize("sources", [1, 6, 24])
def test_gain_of_one_clip_among_many_does_not_pass(sources: int) -> None:
    before = rows(noise(1, 0.3), sources=sources)
    after = rows(lambda clip, condition: noise(1, 0.3)(clip, condition) - 5.0 * (clip == 7), sources=sources)
    assert gained(before, after).mean > 0.1
    assert not passes(before, after)[0]


def test_gain_of_one_voice_does_not_pass_however_many_clips_it_has() -> None:
    before = rows(noise(1, 0.3), clips=200, sources=4)
    after = rows(lambda clip, condition: noise(1, 0.3)(clip, condition) - (clip % 4 == 1), clips=200, sources=4)
    assert not passes(before, after)[0]


def test_noise_is_promoted_about_as_rarely_as_the_confidence_says() -> None:
    promoted = sum(passes(rows(noise(2 * seed, 0.1)), rows(noise(2 * seed + 1, 0.1)))[0] for seed in range(60))
    assert promoted <= 8


def test_too_few_clips_promote_nothing() -> None:
    before = rows(noise(1, 0.1), clips=12)
    after = rows(lambda clip, condition: noise(1, 0.1)(clip, condition) - 0.5, clips=12)
    assert passes(before, after, samples=12)[0]
    passed, reason = passes(before, after, samples=13)
    assert not passed
    assert "only 12 test clips, 13 needed" in reason


def test_clips_that_one_model_lacks_are_left_out() -> None:
    before, after = rows(noise(1, 0.1)), rows(noise(2, 0.1))
    assert gained(before, after[3:]) == gained(before[3:], after[3:])


def test_same_seed_same_bound_in_any_order() -> None:
    before, after = rows(noise(1, 0.3)), rows(noise(2, 0.3))
    assert gained(before, after) == gained(before[::-1], after[::-1])
    assert gained(before, after).lower != gained(before, after, seed=2).lower


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_bound_is_that_of_scipy(better: str) -> None:
    rng = np.random.default_rng(5)
    before, after = rng.normal(1.0, 0.3, (2, 60))
    made = [
        [Row("one", "extend", "speech", f"s{i}", f"c{i}", {"lsd": float(value)}) for i, value in enumerate(scores)]
        for scores in (before, after)
    ]
    params = BootstrapParams(resamples=20_000)
    ours = statistics.gain(made[0], made[1], "one.all.lsd", better, params, 1)
    sign = 1 if better == "higher" else -1
    theirs = scipy.stats.bootstrap(
        (sign * (after - before),), np.mean, n_resamples=20_000, confidence_level=0.95, alternative="greater",
        method="percentile", rng=np.random.default_rng(2),
    )  # fmt: skip
    assert ours is not None
    assert ours.mean == pytest.approx(sign * (after - before).mean())
    assert ours.lower == pytest.approx(theirs.confidence_interval.low, abs=0.003)


def test_table_is_read_as_the_report_writes_it(tmp_path: Path) -> None:
    table = (
        "system,condition,mode,kind,source,clip,cutoff_hz,bandwidth_hz,lsd,snr\n"
        "rnn,mp3,restore,speech,anna,anna-1,8000.0,20000.0,1.25,\n"
    )
    (row,) = statistics.read(table)
    assert row.key == ("mp3", "speech", "anna", "anna-1")
    assert row.scores == {"lsd": 1.25}
    with pytest.raises(TrackingError, match="expected the columns"):
        statistics.read("a,b\n1,2\n")
