"""Laws of the gate: the statistic is the reported one, a sure gain passes, noise and single sources never do."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import scipy.stats

from overtone.evaluation import report
from overtone.evaluation.statistics import Row
from overtone.registry import gate, scores
from overtone.registry.scores import Scored
from overtone.registry.versions import RegistryError
from overtone.settings import Guard, RegisterParams

METRIC = "overall.all.lsd"
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


def as_scored(made: list[Row], metrics: Mapping[str, object] | None = None) -> Scored:
    """As a report writes them."""
    table = io.StringIO()
    table.write("system,condition,mode,kind,source,clip,lsd\n")
    for row in made:
        table.write(f"x,{row.condition},{row.mode},{row.kind},{row.source},{row.clip},{row.scores['lsd']!r}\n")
    found = Scored({}, table.getvalue())
    tree = metrics or report.summarise(found.rows)[0]
    return Scored({"test_set": "a", **tree}, table.getvalue())


def noise(seed: int, scale: float) -> Callable[[int, str], float]:
    drawn = np.random.default_rng(seed).normal(0.0, scale, (10_000, len(CONDITIONS)))
    return lambda clip, condition: 1.0 + float(drawn[clip, list(CONDITIONS).index(condition)])


def gained(before: list[Row], after: list[Row], path: str = METRIC) -> scores.Gain:
    found = scores.gain(as_scored(before), as_scored(after), path, "lower")
    assert found is not None
    return found


def passes(before: list[Row], after: list[Row], **settings: float) -> tuple[bool, str]:
    params = RegisterParams(name="m", metric=METRIC, better="lower", **settings)  # type: ignore[arg-type]
    return gate.verdict(gate.compare(as_scored(after), as_scored(before), params))


@pytest.mark.parametrize("path", [METRIC, "extend.speech.lsd", "sinc_8k.music.lsd"])
def test_gain_is_the_difference_of_what_metrics_json_reports(path: str) -> None:
    before, after = rows(noise(3, 0.3)), rows(noise(4, 0.3))
    difference = as_scored(before)[path] - as_scored(after)[path]
    assert gained(before, after, path=path).mean == pytest.approx(difference, abs=2e-6)


def test_same_scores_are_no_gain() -> None:
    made = rows(noise(0, 0.3))
    assert gained(made, made) == scores.Gain(0.0, 0.0, sources=8)
    passed, reason = passes(made, made)
    assert not passed
    assert "does not beat the champion, gain not surely above 0" in reason


def test_gain_of_every_source_passes() -> None:
    before, change = noise(1, 0.3), noise(2, 0.01)
    after = rows(lambda clip, condition: before(clip, condition) - 0.06 + change(clip, condition) - 1.0)
    passed, reason = passes(rows(before), after, margin=0.05, samples=8)
    assert passed, reason
    assert not passes(rows(before), after, margin=0.07)[0]


@pytest.mark.parametrize("clips", [24, 200])
def test_gain_of_one_source_does_not_pass_however_many_clips_it_has(clips: int) -> None:
    before = rows(noise(1, 0.3), clips=clips)
    after = rows(lambda clip, condition: noise(1, 0.3)(clip, condition) - 5.0 * (clip % 8 == 1), clips=clips)
    assert gained(before, after).mean > 0.1
    assert not passes(before, after)[0]


def test_few_sources_are_reported_and_promote_nothing() -> None:
    before = rows(noise(1, 0.1), clips=120, sources=6)
    after = rows(lambda clip, condition: noise(1, 0.1)(clip, condition) - 0.5, clips=120, sources=6)
    assert passes(before, after, samples=6)[0]
    passed, reason = passes(before, after, samples=7)
    assert not passed
    assert "only 6 test sources, 7 needed" in reason


def test_one_source_says_nothing() -> None:
    before, after = (
        [Row("one", "extend", "speech", "s", f"c{i}", {"lsd": value + i / 100}) for i in range(50)]
        for value in (2.0, 1.0)
    )
    assert gained(before, after, "one.all.lsd").lower == -np.inf
    assert not passes(before, after)[0]


@pytest.mark.parametrize("sources", [3, 9])
def test_noise_is_promoted_no_more_often_than_the_interval_allows(sources: int) -> None:
    """Of equal systems at most one in forty passes by a two-sided 95 % interval; a bootstrap over 3 sources lets 16 % pass."""
    params = RegisterParams(name="m", metric="one.all.lsd", better="lower")
    rng, promoted, tries = np.random.default_rng(3), 0, 400
    for _ in range(tries):
        made = [
            [Row("one", "extend", "speech", f"s{i}", "c", {"lsd": float(value)}) for i, value in enumerate(drawn)]
            for drawn in rng.normal(1.0, 0.1, (2, sources))
        ]
        found = scores.gain(as_scored(made[0]), as_scored(made[1]), params.metric, "lower")
        assert found is not None
        promoted += found.lower > 0.0
    assert promoted <= 0.025 * tries + 3 * np.sqrt(0.025 * tries)


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_bound_is_that_of_scipy(better: str) -> None:
    before, after = np.random.default_rng(5).normal(1.0, 0.3, (2, 60))
    made = [
        [Row("one", "extend", "speech", f"s{i}", "c", {"lsd": float(value)}) for i, value in enumerate(drawn)]
        for drawn in (before, after)
    ]
    ours = scores.gain(as_scored(made[0]), as_scored(made[1]), "one.all.lsd", better)  # type: ignore[arg-type]
    sign = 1 if better == "higher" else -1
    theirs = scipy.stats.ttest_1samp(sign * (after - before), 0.0).confidence_interval(0.95)
    assert ours is not None
    assert ours.mean == pytest.approx(sign * (after - before).mean())
    assert ours.lower == pytest.approx(theirs.low)


# --- guards and baselines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["candidate", "champion"])
def test_guard_whose_metric_does_not_exist_is_an_error_that_names_what_there_is(who: str) -> None:
    params = RegisterParams(
        name="m", metric=METRIC, better="lower",
        guards=(Guard(metric="restore.all.sisdr", better="higher", tolerance=0.1),),
    )  # fmt: skip
    made = rows(noise(1, 0.1))
    whole = {"overall": {"all": {"lsd": as_scored(made)[METRIC]}}, "restore": {"all": {"sisdr": 5.0}}}
    lacking = {"overall": whole["overall"], "restore": {"all": {"si_sdr": 5.0}}}
    sides = [as_scored(made, lacking), as_scored(made, whole)]
    with pytest.raises(
        RegistryError, match=rf"register\.guards: the {who} has no finite .*, such as restore\.all\.si_sdr"
    ):
        gate.compare(sides[who == "champion"], sides[who == "candidate"], params)


def test_first_champion_must_beat_every_baseline() -> None:
    params = RegisterParams(name="m", metric=METRIC, better="lower")
    base = noise(1, 0.1)
    candidate = as_scored(rows(lambda clip, condition: base(clip, condition) - 0.2))
    weak = as_scored(rows(base))
    strong = as_scored(rows(lambda clip, condition: base(clip, condition) - 0.4))
    passed, reason = gate.verdict(gate.compare_baselines(candidate, {"sinc": weak}, params))
    assert passed and reason.startswith("beats baseline sinc: overall.all.lsd")
    passed, reason = gate.verdict(gate.compare_baselines(candidate, {"sinc": weak, "wiener": strong}, params))
    assert not passed and reason.startswith("does not beat baseline wiener, gain not surely above 0")
    other = Scored({**weak.metrics, "test_set": "b"}, weak.table)
    with pytest.raises(RegistryError, match="baseline sinc: scored on another test set"):
        gate.compare_baselines(candidate, {"sinc": other}, params)


# --- reading --------------------------------------------------------------------------------------------------------------


def test_scores_compare_only_by_one_code_and_one_test_set() -> None:
    keys = {Scored({"test_set": test_set}, code=code).key for test_set in ("a", "b") for code in ("1", "2")}
    assert len(keys) == 4
    assert scores.code_digest({"visqol": ()}) == scores.code_digest({"visqol": ()})
    assert scores.code_digest({"visqol": ()}) != scores.code_digest({"visqol": ("sinc_8k",)})
