"""Judge and report on a small set of made pairs: means by hand, the same bytes each time, errors that name the file."""

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
from overtone.evaluation import examples, page, report, session
from overtone.evaluation.baselines import Sinc, SpectralBandReplication
from overtone.evaluation.judge import JudgeError, judge
from overtone.evaluation.statistics import Row
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


@pytest.fixture(scope="module")
def sinc(pairs: list[Pair], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> report.Report:
    """Sinc's report, of four examples."""
    out = tmp_path_factory.mktemp("sinc")
    session.report_on("sinc", Sinc, pairs, folder, params(4), out)
    return report.read("sinc", out)


def test_means_are_those_calculated_by_hand(sinc: report.Report) -> None:
    tree = sinc.metrics
    anna8, bela8, drum8, anna16, anna_mp3, drum_mp3 = (snr_of_gain(gain) for *_, gain in PLAN)
    expected = {
        ("sinc_8k", "speech"): (anna8 + bela8) / 2,
        ("sinc_8k", "music"): drum8,
        ("sinc_8k", "all"): ((anna8 + bela8) / 2 + drum8) / 2,
        ("sinc_16k", "all"): anna16,
        ("extend", "speech"): ((anna8 + anna16) / 2 + bela8) / 2,
        ("restore", "all"): (anna_mp3 + drum_mp3) / 2,
        ("overall", "all"): (((anna8 + anna16 + anna_mp3) / 3 + bela8) / 2 + (drum8 + drum_mp3) / 2) / 2,
    }
    for (group, kind), value in expected.items():
        assert tree[group][kind]["snr"] == pytest.approx(value, abs=0.02), (group, kind)
    assert tree["sinc_8k"]["music"]["lsd"] == pytest.approx(-2 * np.log10(0.99), abs=0.01)
    assert set(tree) == {"sinc_8k", "sinc_16k", "mp3", "extend", "restore", "overall", "interval", "test_set"}
    assert "coherence_error" in tree["mp3"]["music"] and "coherence_error" not in tree["mp3"]["speech"]


def test_tables_hold_one_row_a_clip_and_one_a_condition_and_kind(sinc: report.Report) -> None:
    assert [(row.condition, row.clip) for row in sinc.rows] == [(plan[0], plan[2]) for plan in PLAN]
    assert ["coherence_error" in row.scores for row in sinc.rows] == [plan[3] == "music" for plan in PLAN]
    with (sinc.folder / "conditions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["system", "condition", "kind", "lsd", "lsd_hf", "lsd_lf", "si_sdr", "snr"]
    assert [(line["condition"], line["kind"]) for line in lines] == [
        ("sinc_8k", "music"), ("sinc_8k", "speech"), ("sinc_8k", "all"), ("sinc_16k", "speech"), ("sinc_16k", "all"),
        ("mp3", "music"), ("mp3", "speech"), ("mp3", "all"),
    ]  # fmt: skip
    assert float(lines[0]["snr"]) == sinc.metrics["sinc_8k"]["music"]["snr"]


def test_examples_are_the_worst_and_best_clips_and_can_be_heard(
    sinc: report.Report, pairs: list[Pair], folder: Path
) -> None:
    picked = examples.chosen(sinc.rows, 4)
    names = [report.name_of(row) for row in picked]
    assert names == ["sinc_8k-drum", "sinc_8k-anna", "mp3-drum", "mp3-anna"]
    known = {f"{pair.condition}-{pair.clip}": pair for pair in pairs}
    for name in names:
        assert (sinc.folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        before, after, reference = (
            audio.read(sinc.folder / "audio" / f"{name}-{part}.flac")[0] for part in report.PARTS
        )
        assert np.array_equal(before, audio.read(folder / known[name].input)[0])
        assert np.array_equal(after, before)
        assert np.array_equal(reference, audio.read(folder / known[name].target)[0])


def test_examples_of_another_test_set_do_not_stay(pairs: list[Pair], folder: Path, tmp_path: Path) -> None:
    for part in ("figures", "audio"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "old").write_text("of another test set")
    session.report_on("sinc", Sinc, pairs[:1], folder, params(), tmp_path)
    assert not list(tmp_path.rglob("old"))


def test_page_shows_systems_their_runs_and_examples_without_a_network(sinc: report.Report, tmp_path: Path) -> None:
    run = page.Run("abc123", "sinc <1>", "https://mlflow.example/#/runs/abc123")
    page.write(tmp_path / "index.html", [sinc], {"sinc": run})
    text = (tmp_path / "index.html").read_text()
    assert '<a href="https://mlflow.example/#/runs/abc123">sinc &lt;1&gt;</a>' in text
    assert text.count("data:audio/mpeg") == 3 * 4 and text.count("data:image/png") == 4
    assert text.index("sinc, sinc_8k: anna") < text.index("sinc, sinc_8k: drum")
    assert str(sinc.folder) not in text and ' src="http' not in text
    again = tmp_path / "again.html"
    page.write(again, [sinc], {"sinc": run})
    assert again.read_text() == text


class Unsendable(SpectralBandReplication):
    """A system that no process can send to another, as one that holds a graph of ONNX Runtime."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("not to be sent")


def test_same_pairs_give_same_bytes_with_any_number_of_processes(
    pairs: list[Pair], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    one = judge("sbr", SpectralBandReplication, pairs, folder, params(), lambda *now: calls.append(now), workers=1)
    assert calls == [(done, len(pairs)) for done in range(1, len(pairs) + 1)]
    # The first two pairs are judged here, the others in other processes.
    monkeypatch.setattr(parallel, "_long", lambda seconds, _: len(seconds) == 2)
    assert judge("sbr", Unsendable, pairs, folder, params()) == one
    for name in ("first", "second"):
        report.write(one, "set", tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == ["conditions.csv", "metrics.json", "oracle.csv", "scores.csv", "summary.json"]
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
        assert str(folder) not in (tmp_path / "first" / name).read_text()


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
    def judged(change: Callable[[Signal], Signal], of: list[Pair]) -> None:
        judge("broken", lambda: Broken(change), of, folder, params(), workers=1)

    with pytest.raises(JudgeError, match=r"sinc_8k-anna: output of shape .* expected"):
        judged(lambda signal: signal[:, 1:], pairs)
    with pytest.raises(JudgeError, match="sinc_8k-anna: prediction: holds NaN"):
        judged(lambda signal: signal * np.float32(np.nan), pairs)
    with pytest.raises(JudgeError, match="no pairs"):
        judged(lambda signal: signal, [])
    with pytest.raises(JudgeError, match=r"anna\.flac.*99"):
        judged(lambda signal: signal, [replace(pairs[0], frames=99)])
    with pytest.raises(
        report.ReportError, match=r"nowhere/scores\.csv: no such file; expected the output of the stage"
    ):
        report.read("sinc", tmp_path / "nowhere")
    with pytest.raises(report.ReportError, match="line 2: holds no score"):
        report.read_rows("condition,mode,kind,source,clip,lsd\na,extend,speech,b,c,\n")


def test_interval_is_over_sources_whatever_the_number_of_clips() -> None:
    values = (1.0, 1.5, 1.25, 2.0)
    few = [Row("sinc_8k", "extend", "speech", f"voice{i}", f"{i}", {"lsd": value}) for i, value in enumerate(values)]
    many = [replace(row, clip=f"{row.clip}-{turn}") for turn in range(9) for row in few]
    half = float(scipy.stats.t.ppf(0.975, 3) * np.std(values, ddof=1) / 2)
    for rows in (few, many):
        means, halves = report.summarise(rows)
        assert means["sinc_8k"]["speech"]["lsd"] == pytest.approx(np.mean(values))
        assert halves["sinc_8k"]["speech"]["lsd"] == pytest.approx(half, abs=1e-5)


class Listening(SpectralBandReplication):
    """Keeps what it is asked, and decides by a given rule."""

    def __init__(self, found_hz: float) -> None:
        self.calls: list[dict[str, Any]] = []
        self.found_hz = found_hz

    def decision(self, signal: Signal, rate: int, *, mode: Any = "auto", cutoff_hz: float | None = None) -> float:
        return cutoff_hz or self.found_hz

    def enhance(self, signal: Signal, rate: int, **known: Any) -> Signal:
        self.calls.append({"shape": signal.shape, "rate": rate} | known)
        return super().enhance(signal, rate, **known)


@pytest.mark.parametrize(("found_hz", "mode"), [(3_900.0, "extend"), (4_000.0, "extend"), (4_000.0, "clean")])
def test_input_is_given_at_its_own_rate_blind_and_with_the_truth_where_that_changes_something(
    tmp_path: Path, found_hz: float, mode: Any
) -> None:
    target = 0.1 * np.random.default_rng(0).standard_normal((1, FRAMES)).astype(np.float32)
    pair = replace(make_pair(tmp_path, *PLAN[0]), input_rate=8_000, cutoff_hz=4_000.0, mode=mode)
    audio.write(tmp_path / pair.input, audio.resample(target, RATE, 8_000), 8_000)
    system = Listening(found_hz)
    found = judge("sbr", lambda: system, [pair], tmp_path, params(), workers=1)
    given = {"shape": (1, FRAMES // 6), "rate": 8_000}
    informed = [given | {"mode": "extend", "cutoff_hz": 4_000.0}] if found_hz != 4_000.0 else []
    assert system.calls == [given, *informed]
    assert len(found.rows) == 1 and len(found.oracle) == (mode != "clean")
    assert all("copies" in row.scores for row in found.rows) and not any("copies" in row.scores for row in found.oracle)


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
    assert "| the same, given the cutoff | lower | speech | 1.00 |" in lines
