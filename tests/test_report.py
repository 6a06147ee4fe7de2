"""A report on a small set of made pairs: means by hand, the same bytes each time, errors that name the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import scipy.stats

from overtone import audio
from overtone.audio import Signal
from overtone.data import parallel
from overtone.data.pairs import Pair
from overtone.evaluation import judge, report
from overtone.evaluation.baselines import Sinc, SpectralBandReplication
from overtone.evaluation.judge import Judged, JudgeError
from overtone.evaluation.table import figures, table
from overtone.settings import EvaluateParams

RATE = 48_000
FRAMES = 24_000
# (condition, mode, clip, kind, gain of the input against its target)
PLAN = (
    ("sinc_8k", "extend", "anna", "speech", 0.5),
    ("sinc_8k", "extend", "bela", "speech", 0.9),
    ("sinc_8k", "extend", "drum", "music", 0.99),
    ("sinc_16k", "extend", "anna", "speech", 0.8),
    ("mp3", "restore", "anna", "speech", 0.75),
    ("mp3", "restore", "drum", "music", 0.6),
)


def snr_of_gain(gain: float) -> float:
    return float(-20 * np.log10(1 - gain))


def make_pair(folder: Path, condition: str, mode: Any, clip: str, kind: str, gain: float) -> Pair:
    channels = 2 if kind == "music" else 1
    target = 0.1 * np.random.default_rng(sum(map(ord, clip))).standard_normal((channels, FRAMES))
    paths = {"target": Path("test/target") / f"{clip}.flac", "input": Path("test") / condition / f"{clip}.flac"}
    audio.write(folder / paths["target"], target.astype(np.float32), RATE)
    audio.write(folder / paths["input"], (gain * target).astype(np.float32), RATE)
    return Pair(
        pair=f"{condition}-{clip}", split="test", condition=condition, mode=mode, kind=kind, source=clip, clip=clip,
        input=str(paths["input"]), target=str(paths["target"]), channels=channels, frames=FRAMES, rate=RATE,
        input_rate=RATE, cutoff_hz=8000.0, bandwidth_hz=20_000.0, recipe=json.dumps({"steps": [{"gain": gain}]}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def pairs(folder: Path) -> list[Pair]:
    return [make_pair(folder, *plan) for plan in PLAN]


def params(figures: int = 0) -> EvaluateParams:
    return EvaluateParams(baselines=("sinc", "sbr"), figures=figures, visqol=(), perceptual=False)


def evaluate(
    name: str, system: Any, pairs: list[Pair], folder: Path, out: Path, params: EvaluateParams, **options: Any
) -> Judged:
    found = judge.judge(name, system, pairs, folder, params, out, **options)
    report.write(found, report.fingerprint(pairs, folder), out)
    return found


@pytest.fixture(scope="module")
def result(pairs: list[Pair], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Judged, Path]:
    out = tmp_path_factory.mktemp("sinc")
    return evaluate("sinc", Sinc, pairs, folder, out, params(2), workers=1), out


def tree_of(out: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return tree


def test_means_are_those_calculated_by_hand(result: tuple[Judged, Path]) -> None:
    tree = tree_of(result[1])
    anna8, bela8, drum8, anna16, anna_mp3, drum_mp3 = (snr_of_gain(gain) for *_, gain in PLAN)
    expected = {
        ("sinc_8k", "speech"): (anna8 + bela8) / 2,
        ("sinc_8k", "music"): drum8,
        ("sinc_8k", "all"): ((anna8 + bela8) / 2 + drum8) / 2,
        ("sinc_16k", "all"): anna16,
        ("extend", "speech"): ((anna8 + anna16) / 2 + bela8) / 2,
        ("extend", "music"): drum8,
        ("extend", "all"): (((anna8 + anna16) / 2 + bela8) / 2 + drum8) / 2,
        ("restore", "all"): (anna_mp3 + drum_mp3) / 2,
        ("overall", "all"): (((anna8 + anna16 + anna_mp3) / 3 + bela8) / 2 + (drum8 + drum_mp3) / 2) / 2,
    }
    for (group, kind), value in expected.items():
        assert tree[group][kind]["snr"] == pytest.approx(value, abs=0.02), (group, kind)
    assert tree["sinc_8k"]["music"]["lsd"] == pytest.approx(-2 * np.log10(0.99), abs=0.01)
    assert set(tree) == {"sinc_8k", "sinc_16k", "mp3", "extend", "restore", "overall", "interval", "test_set"}


def test_metrics_are_of_stereo_clips_only_where_they_mean_the_image(result: tuple[Judged, Path]) -> None:
    tree = tree_of(result[1])
    assert "coherence_error" in tree["mp3"]["music"] and "coherence_error" not in tree["mp3"]["speech"]


def test_tables_hold_one_row_a_clip_and_one_a_condition_and_kind(result: tuple[Judged, Path]) -> None:
    written, out = result
    with (out / "scores.csv").open(newline="") as file:
        scores = list(csv.DictReader(file))
    assert [(row["condition"], row["clip"]) for row in scores] == [(plan[0], plan[2]) for plan in PLAN]
    assert float(scores[0]["lsd"]) == round(written.rows[0].scores["lsd"], 6)
    assert scores[0]["coherence_error"] == "" and scores[2]["coherence_error"] != ""
    with (out / "conditions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["system", "condition", "kind", "lsd", "lsd_hf", "lsd_lf", "si_sdr", "snr"]
    assert [(line["condition"], line["kind"]) for line in lines] == [
        ("sinc_8k", "music"), ("sinc_8k", "speech"), ("sinc_8k", "all"), ("sinc_16k", "speech"), ("sinc_16k", "all"),
        ("mp3", "music"), ("mp3", "speech"), ("mp3", "all"),
    ]  # fmt: skip
    assert float(lines[0]["snr"]) == tree_of(out)["sinc_8k"]["music"]["snr"]


def test_examples_are_spread_over_conditions_and_can_be_heard(result: tuple[Judged, Path], folder: Path) -> None:
    written, _ = result
    assert len({example.pair.condition for example in written.examples}) == 2
    for example in written.examples:
        assert example.figure.read_bytes().startswith(b"\x89PNG")
        for path, source in ((example.before, example.pair.input), (example.reference, example.pair.target)):
            assert np.array_equal(audio.read(path)[0], audio.read(folder / source)[0])
        assert np.array_equal(audio.read(example.after)[0], audio.read(example.before)[0])


class Unsendable(SpectralBandReplication):
    """A system that no process can send to another, as one that holds a graph of ONNX Runtime."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("not to be sent")


def test_same_pairs_give_same_bytes_with_any_number_of_processes(
    pairs: list[Pair], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    # The first two pairs are judged here, the others in other processes.
    monkeypatch.setattr(parallel, "_long", lambda seconds, _: len(seconds) == 2)
    evaluate("sbr", Unsendable, pairs, folder, tmp_path / "both", params(1))
    evaluate("sbr", SpectralBandReplication, pairs, folder, tmp_path / "one", params(1), workers=1)
    evaluate(
        "sbr", SpectralBandReplication, pairs, folder, tmp_path / "two", params(1),
        progress=lambda *counts: calls.append(counts), workers=2,
    )  # fmt: skip
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 5 + 4
    for name in files:
        for other in ("two", "both"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / other / name).read_bytes(), name
    assert calls == [(done, len(pairs)) for done in range(1, len(pairs) + 1)]


def test_report_holds_no_path_of_the_machine(result: tuple[Judged, Path], folder: Path) -> None:
    _, out = result
    for name in ("metrics.json", "summary.json", "scores.csv", "conditions.csv"):
        text = (out / name).read_text()
        assert str(out) not in text and str(folder) not in text


def test_old_examples_do_not_stay(pairs: list[Pair], folder: Path, tmp_path: Path) -> None:
    for part in ("figures", "audio"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "old").write_text("of another test set")
    evaluate("sinc", Sinc, pairs[:1], folder, tmp_path, params(), workers=1)
    assert not list(tmp_path.rglob("old"))


@pytest.mark.parametrize("figures", [0, 1, 3, 4, 6, 50])
def test_as_many_examples_as_asked_and_none_twice(pairs: list[Pair], figures: int) -> None:
    chosen = judge.spread(pairs, figures)
    assert len({pair.pair for pair in chosen}) == len(chosen) == min(figures, len(pairs))
    assert len({pair.condition for pair in chosen}) == min(figures, 3)


def test_test_set_changes_with_its_files_and_not_with_its_order(tmp_path: Path) -> None:
    pairs = [make_pair(tmp_path, *plan) for plan in PLAN[:3]]
    before = report.fingerprint(pairs, tmp_path)
    assert report.fingerprint(pairs[::-1], tmp_path) == before
    assert report.fingerprint(pairs[:2], tmp_path) != before
    make_pair(tmp_path, *PLAN[0][:4], 0.4)
    assert report.fingerprint(pairs, tmp_path) != before


class Broken:
    """A system whose output is made by a function."""

    def __init__(self, change: Callable[[Signal], Signal]) -> None:
        self.change = change

    def enhance(self, signal: Signal, rate: int, *, mode: Any = "auto", cutoff_hz: float | None = None) -> Signal:
        return self.change(signal)


def test_faults_are_named(pairs: list[Pair], folder: Path, tmp_path: Path) -> None:
    def judged(change: Callable[[Signal], Signal], of: list[Pair]) -> Judged:
        return evaluate("broken", lambda: Broken(change), of, folder, tmp_path, params(), workers=1)

    with pytest.raises(JudgeError, match=r"sinc_8k-anna: output of shape .* expected"):
        judged(lambda signal: signal[:, 1:], pairs)
    with pytest.raises(JudgeError, match="sinc_8k-anna: prediction: holds NaN"):
        judged(lambda signal: signal * np.float32(np.nan), pairs)
    with pytest.raises(JudgeError, match="no pairs"):
        judged(lambda signal: signal, [])
    other = Pair(**{**vars(pairs[0]), "frames": 99})
    with pytest.raises(JudgeError, match=r"anna\.flac.*99"):
        judged(lambda signal: signal, [other])


def test_interval_is_over_sources_whatever_the_number_of_clips(tmp_path: Path) -> None:
    plan = [("sinc_8k", "extend", f"voice{index}", "speech", 0.5 + index / 10) for index in range(4)]
    pairs = [make_pair(tmp_path, *one) for one in plan]
    few = evaluate("sinc", Sinc, pairs, tmp_path, tmp_path / "few", params(), workers=1)
    again = [
        replace(pair, pair=f"{pair.pair}-{turn}", clip=f"{pair.clip}-{turn}") for turn in range(9) for pair in pairs
    ]
    evaluate("sinc", Sinc, again, tmp_path, tmp_path / "many", params(), workers=1)
    known = [row.scores["snr"] for row in few.rows]
    half = float(scipy.stats.t.ppf(0.975, 3) * np.std(known, ddof=1) / 2)
    for name in ("few", "many"):
        tree = tree_of(tmp_path / name)
        assert tree["sinc_8k"]["speech"]["snr"] == pytest.approx(np.mean(known), abs=1e-5)
        assert tree["interval"]["sinc_8k"]["speech"]["snr"] == pytest.approx(half, abs=1e-5)


def test_input_is_given_at_its_own_rate_blind_and_with_the_truth(tmp_path: Path) -> None:
    target = 0.1 * np.random.default_rng(0).standard_normal((1, FRAMES)).astype(np.float32)
    pair = replace(make_pair(tmp_path, *PLAN[0]), input_rate=8_000, cutoff_hz=4_000.0)
    audio.write(tmp_path / pair.input, audio.resample(target, RATE, 8_000), 8_000)
    calls: list[Any] = []

    class Listening(SpectralBandReplication):
        def enhance(self, signal: Signal, rate: int, **known: Any) -> Signal:
            calls.append((signal.shape, rate, known))
            return super().enhance(signal, rate, **known)

    found = judge.judge("sbr", Listening, [pair], tmp_path, params(), workers=1)
    given = ((1, FRAMES // 6), 8_000)
    assert calls == [(*given, {}), (*given, {"mode": "extend", "cutoff_hz": 4_000.0})]
    assert len(found.rows) == len(found.oracle) == 1


def tree(lsd: float, half: float = 0.1, test_set: str = "a") -> dict[str, Any]:
    groups = ("sinc_12k", "sinc_8k", "extend", "overall")

    def of(value: float) -> dict[str, Any]:
        return {group: {kind: {"lsd": value} for kind in ("all", "music", "speech")} for group in groups}

    return of(lsd) | {"interval": of(half), "oracle": of(lsd - 0.2), "test_set": test_set}


def test_table_sets_systems_beside_each_other_with_intervals() -> None:
    text = table({"sinc": tree(3.0), "rnn": tree(1.2, 0.07)})
    lines = text.splitlines()
    assert lines[0] == "| condition | kind | sinc | rnn |"
    assert lines[3] == "| sinc_8k | speech | 3.00 ± 0.10 | 1.20 ± 0.07 |"
    assert [line.split(" | ")[0] for line in lines[2:10:2]] == ["| sinc_8k", "| sinc_12k", "| extend", "| overall"]
    assert "Not comparable" not in text
    assert "Not comparable" in table({"sinc": tree(3.0), "rnn": tree(1.2, test_set="b")})


def test_figures_show_blind_beside_oracle() -> None:
    lines = figures({"rnn": tree(1.2)}).splitlines()
    assert "| Band extended: LSD | lower | speech | 1.20 ± 0.10 |" in lines
    assert "| the same, told the cutoff | lower | speech | 1.00 |" in lines
