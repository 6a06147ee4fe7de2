"""Laws of the page of all systems: what it shows is what the reports say, it needs nothing else, and a browser plays it."""

from __future__ import annotations

import csv
import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from overtone import audio, report
from overtone.data.pairs import Pair, read_pairs
from overtone.models import baselines, build
from overtone.overview import charts, clips, media, page, systems, tables
from overtone.overview.systems import ClipScores, OverviewError, Run, System
from overtone.params import EvaluateParams, Params
from overtone.upsample import Upsampler

RATE = 48_000
PLAIN = EvaluateParams(figures=0, perceptual=False, baselines=("sinc", "sbr"))
RUN = Run("e" * 32, "rnn · layers=1")


@dataclass(frozen=True)
class Made:
    """A small line's reports, and what the page needs besides."""

    folder: Path
    pairs_folder: Path
    pairs: list[Pair]
    systems: list[System]
    listen: dict[str, Callable[[], clips.Enhancer]]

    def write(self, path: Path) -> Path:
        ablation = ROOT / "docs" / "ablation.csv"
        page.write(path, self.systems, self.listen, self.pairs, self.pairs_folder, ablation)
        return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pairs_folder: Path, params: Params) -> Made:
    """Real reports of two baselines and of an untrained network, as the stages write them."""
    folder = tmp_path_factory.mktemp("line")
    model = folder / "models" / "rnn"
    model.mkdir(parents=True)
    build.save(build.network(params.train.rnn, params.corpus.rate), model, "rnn", params.train.rnn)
    facts = {"run_id": RUN.run_id, "model": "rnn", "commit": "c0ffee", "steps": 100, "parameters": 12_345}
    (model / "run.json").write_text(json.dumps(facts))
    (model / "history.csv").write_text("epoch,step,train_loss,valid_lsd\n0,50,2.0,1.5\n1,100,1.5,1.25\n")
    listen: dict[str, Callable[[], clips.Enhancer]] = {
        "sbr": baselines.SpectralBandReplication,
        "rnn": functools.partial(Upsampler.load, model),
    }
    pairs = list(read_pairs(pairs_folder, "test"))
    shown = []
    for name, make in {"sinc": baselines.Sinc, **listen}.items():
        out = folder / "reports" / name
        report.evaluate(name, make, pairs, pairs_folder, out, PLAIN, workers=1)
        trained = name == "rnn"
        shown.append(systems.load(name, out, model if trained else None, RUN if trained else None))
    return Made(folder, pairs_folder, pairs, shown, listen)


@pytest.fixture(scope="module")
def written(made: Made) -> Path:
    return made.write(made.folder / "reports" / "index.html")


# --- what it shows ------------------------------------------------------------------------------------------------------


def test_same_inputs_make_the_same_bytes(made: Made, written: Path, tmp_path: Path) -> None:
    assert made.write(tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_key_table_holds_the_reports_figures_and_marks_the_best(made: Made) -> None:
    text = tables.key(made.systems)
    figures = {one.name: one.value("overall", "all", "lsd") for one in made.systems}
    for value in figures.values():
        assert f">{value:.3f}</td>" in text
    least = min(value for value in figures.values() if value is not None)
    assert f"<td class='best'>{least:.3f}</td>" in text


def test_every_value_of_a_chart_is_where_its_axis_says() -> None:
    values: dict[str, list[float | None]] = {"one": [1.0, 2.0, None], "two": [1.5, 4.0, 0.5]}
    low, high, ticks = charts.axis([1.0, 2.0, 1.5, 4.0, 0.5])
    assert (low, high) == (ticks[0], ticks[-1]) == (0.0, 4.0)
    drawn = charts.dots(["a", "b", "c"], values)
    places = [float(x) for x in re.findall(r"<svg x='([\d.]+)%'", drawn)]
    assert places == [25.0, 37.5, 50.0, 100.0, 12.5]
    assert "one: 2<" in drawn and "two: 4<" in drawn


@pytest.mark.parametrize("values", [[0.1, 0.2], [-3.2, 11.7], [1.0, 1.0], [0.0, 0.0], [1.05, 1.12], [-70.0, -20.0], []])
def test_axis_holds_all_values_between_round_ticks(values: list[float]) -> None:
    low, high, ticks = charts.axis(values)
    assert low < high
    assert all(low <= value <= high for value in values)
    assert 2 <= len(ticks) <= 8
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_worst_and_best_are_those_of_the_scores() -> None:
    scores = {"anna": 1.0, "bela": 3.0, "carl": 3.0, "dora": 0.5}
    rows = [ClipScores("sinc_8k", "extend", "speech", clip, {"lsd": lsd}) for clip, lsd in scores.items()]
    rows += [
        ClipScores("mp3", "restore", "speech", "anna", {"lsd": 2.0}),
        ClipScores("loss", "restore", "speech", "x", {}),
    ]
    found = clips.extremes(System("rnn", {}, "", tuple(rows)))
    assert found == {
        "sinc_8k": clips.Choice(("sinc_8k", "bela"), ("sinc_8k", "dora")),
        "mp3": clips.Choice(("mp3", "anna"), ("mp3", "anna")),
    }


def test_excerpt_is_where_the_target_is_loudest() -> None:
    signal = np.full((1, 8 * RATE), 0.01, np.float32)
    signal[:, 4 * RATE : 7 * RATE] = 0.5
    assert clips.excerpt(signal, RATE) == slice(4 * RATE, 7 * RATE)
    assert clips.excerpt(signal[:, : RATE // 2], RATE) == slice(0, RATE // 2)


def test_page_holds_a_sound_and_a_picture_of_every_system_for_each_choice(written: Path) -> None:
    data = data_of(written)
    assert set(data["choices"]) == {"sbr", "rnn"}
    for choice in data["choices"].values():
        assert set(choice) == {"sinc_8k", "noise_10db"}
        for one in choice.values():
            for which in ("worst", "best"):
                sounds = data["clips"][one[which]]["sounds"]
                assert [sound["name"] for sound in sounds] == ["before", "sbr", "rnn", "target"]
                # Replication leaves noise alone: only what is extended is surely changed by every system.
                assert len({sound["audio"] for sound in sounds}) == 4 or one[which].startswith("noise")


def test_sounds_are_the_clips_own_at_their_own_level(made: Made, written: Path) -> None:
    import base64

    for key, clip in data_of(written)["clips"].items():
        (pair,) = [one for one in made.pairs if f"{one.condition}/{one.clip}" == key]
        start = round(clip["start"] * RATE)
        for name, relative in (("before", pair.input), ("target", pair.target)):
            (sound,) = [one["audio"] for one in clip["sounds"] if one["name"] == name]
            heard, rate = audio.decode(base64.b64decode(sound.partition(",")[2]))
            given, _ = audio.read(made.pairs_folder / relative, start, round(clip["seconds"] * RATE))
            assert rate == RATE and heard.shape[0] == given.shape[0]
            level = float(np.sqrt(np.mean(heard**2)) / np.sqrt(np.mean(given**2)))
            assert level == pytest.approx(1.0, abs=0.06), (key, name)


def test_serial_number_changes_nothing_that_is_heard() -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (1, RATE)).astype(np.float32)
    first = audio.encode(noise, RATE, "OPUS")
    second = media.with_serial(first, 7)
    assert second != first and {second[14:18]} == {b"\x07\x00\x00\x00"}
    # A decoder drops pages whose checksum is wrong.
    np.testing.assert_array_equal(audio.decode(second)[0], audio.decode(first)[0])
    with pytest.raises(ValueError, match="Ogg page"):
        media.with_serial(b"RIFF" + bytes(40), 7)


def test_page_asks_nothing_of_any_other_address(written: Path) -> None:
    text = written.read_text()
    shown, _, _ = text.partition("<script type='application/json'")
    assert set(re.findall(r"(?:src|href)='(https?:[^']*)'", shown)) == {f"http://127.0.0.1:5000/#/runs/{RUN.run_id}"}
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)='(?!data:)", shown)
    assert "url(" not in text and "@import" not in text


def test_run_on_a_server_is_linked_there(made: Made) -> None:
    there = replace(made.systems[-1], run=Run(RUN.run_id, RUN.name, f"https://mlflow.example/#/runs/{RUN.run_id}"))
    assert f"href='https://mlflow.example/#/runs/{RUN.run_id}'" in tables.trainings([there])
    assert not tables.needs_server([there]) and tables.needs_server(made.systems)


def test_reports_of_different_test_sets_are_called_not_comparable(made: Made) -> None:
    other = replace(made.systems[0], test_set="0" * 64)
    assert "Not comparable" in page.page([other, *made.systems[1:]], {}, {}, "")
    assert "Not comparable" not in page.page(made.systems, {}, {}, "")


def test_report_without_its_scores_is_named(made: Made, tmp_path: Path) -> None:
    with pytest.raises(OverviewError, match=r"nowhere/metrics\.json: no such file"):
        systems.load("rnn", tmp_path / "nowhere")
    pairs = [one for one in made.pairs if one.condition != "sinc_8k"]
    with pytest.raises(OverviewError, match="under sinc_8k; expected one"):
        list(clips.heard([("sinc_8k", made.pairs[0].clip)], pairs, made.pairs_folder, {}))


def test_ablation_shown_is_the_documents() -> None:
    lines = tables.read_ablation(ROOT / "docs" / "ablation.csv")
    document = (ROOT / "docs" / "ablation.md").read_text()
    table = [line for line in document.partition("## ")[0].splitlines() if line.endswith("` |")]
    columns = ("variant", "speech", "music", "restored", "snr", "line")
    assert [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table] == [
        [*(line[column] for column in columns), line["changes"]] for line in lines
    ]


def test_ablation_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ablation.csv"
    with pytest.raises(OverviewError, match="no such file"):
        tables.ablation(path)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["variant", "lsd"], ["baseline", "1.0"]])
    with pytest.raises(OverviewError, match="expected the columns variant,speech"):
        tables.ablation(path)


def data_of(path: Path) -> Any:
    found = re.search(r"id='clips'>(.*?)</script>", path.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


# --- in a browser -------------------------------------------------------------------------------------------------------


@dataclass
class Opened:
    """The page in a tab that has no network, and what went wrong there."""

    tab: Any
    wrong: list[str]


@pytest.fixture(params=[("light", 1200), ("dark", 390)], ids=["wide", "phone"])
def opened(request: pytest.FixtureRequest, browser: Any, written: Path) -> Iterator[Opened]:
    scheme, width = request.param
    context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 900})
    tab = context.new_page()
    seen = Opened(tab, [])
    tab.on("console", lambda message: seen.wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: seen.wrong.append(str(error)))
    tab.goto(written.as_uri())
    tab.wait_for_selector("#cards audio")
    yield seen
    context.close()


@pytest.mark.slow
def test_page_opens_without_network_and_without_error(opened: Opened) -> None:
    tab = opened.tab
    assert tab.title() == "Overtone: report"
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"
    boxes = [marker.bounding_box() for marker in tab.query_selector_all(".chart svg.plot path[class^=s]")]
    drawn = [box for box in boxes if box and box["width"] > 5]
    # Two conditions and three macro rows of three systems, at least.
    assert len(drawn) >= 15
    assert opened.wrong == []


@pytest.mark.slow
def test_choosers_show_what_is_chosen(opened: Opened) -> None:
    tab = opened.tab
    assert visible(tab) == [("lsd", "all")]
    tab.select_option("#metric", "si_sdr")
    tab.select_option("#kind", "music")
    assert visible(tab) == [("si_sdr", "music")]
    tab.select_option("#system", "sbr")
    tab.select_option("#condition", "noise_10db")
    heads = tab.locator("#cards h3").all_inner_texts()
    assert [head.split(":")[0] for head in heads] == ["Worst of sbr, noise_10db", "Best of sbr, noise_10db"]
    assert opened.wrong == []


@pytest.mark.slow
def test_players_play_and_take_over_from_each_other(opened: Opened) -> None:
    tab = opened.tab
    tab.wait_for_function("[...document.querySelectorAll('audio')].every((one) => one.duration > 1)")
    assert tab.locator("audio").count() == 8
    widths = tab.evaluate("[...document.querySelectorAll('.view img')].map((one) => one.naturalWidth)")
    assert len(widths) == 8 and min(widths) > 100
    tab.locator("#cards .view").first.click()
    tab.wait_for_function("document.querySelectorAll('audio')[0].currentTime > 0.2")
    # The keyboard: the fourth sound of this clip goes on where the first was.
    tab.locator("#cards .view").first.press("4")
    tab.wait_for_function("!document.querySelectorAll('audio')[3].paused")
    assert tab.evaluate("document.querySelectorAll('audio')[0].paused")
    assert tab.evaluate("document.querySelectorAll('audio')[3].currentTime") > 0.15
    assert opened.wrong == []


def visible(tab: Any) -> list[tuple[str, str]]:
    shown = tab.evaluate(
        "[...document.querySelectorAll('[data-metric]')].filter((one) => one.offsetParent)"
        ".map((one) => [one.dataset.metric, one.dataset.kind])"
    )
    return [(metric, kind) for metric, kind in shown]
