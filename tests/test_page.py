"""Laws of the page, in a real browser against a real server: what is heard, seen, saved, and told when something is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from conftest import INHERITED, ROOT
from overtone import audio
from overtone.serving import security
from overtone.settings import Params, RegisterParams
from test_http import KEY, started

pytestmark = pytest.mark.slow

RATE = 48_000
SCORES = {"overall": {"all": {"lsd": 1.25}}, "extend": {"speech": {"lsd": 1.5}, "music": {"lsd": 1.0}}}
FADE, AHEAD = 0.015, 0.01
# On a busy machine an answer takes longer than a client's usual patience.
PATIENT = httpx.Client(timeout=120.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, params: Params) -> Path:
    """A project whose registry holds a champion of tiny random weights, scored."""
    import torch

    from overtone.models.model import Model
    from overtone.registry import register
    from overtone.registry.scores import Scored

    folder = tmp_path_factory.mktemp("page")
    model = folder / "models" / "rnn"
    model.mkdir(parents=True)
    torch.manual_seed(0)
    Model.untrained("rnn", params.train.rnn, params.corpus.rate).save(model)
    facts = {
        "run_id": "1" * 32,
        "experiment": "overtone",
        "commit": "c0ffee",
        "data_digest": "d1ce.dir",
        "model": "rnn",
    }
    (model / "run.json").write_text(json.dumps(facts))
    (model / "history.csv").write_text("task,epoch,step,extend_train_loss,extend_valid_lsd\nextend,0,50,2.0,1.5\n")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    own = RegisterParams.model_validate(params.register_.model_dump() | {"guards": [
        {"metric": f"extend.{kind}.lsd", "better": "lower", "tolerance": 0.1} for kind in ("speech", "music")
    ]})  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in INHERITED:
            patch.setenv(name, "")
            patch.delenv(name)
        patch.setenv("DVC_ROOT", str(folder))
        patch.chdir(folder)
        register.register([register.Candidate(model, Scored({"test_set": "a", **SCORES}))], own)
    return folder


@pytest.fixture(scope="module")
def server(root: Path, environment: dict[str, str]) -> Iterator[str]:
    with started(root, environment, "--workers", "1") as (address, _, _):
        yield address


@pytest.fixture
def page(browser: Any, server: str) -> Iterator[Any]:
    """The page, open; at the end nothing else was asked for anything, and nothing complained."""
    with Opened(browser, server) as one:
        yield one


class Opened:
    """A fresh page on a server, watched."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self._context = browser.new_context(
            viewport={"width": 1280, "height": 1000}, permissions=["microphone"], **options
        )
        self._context.set_default_timeout(60_000)
        self._address = address
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.expected: tuple[str, ...] = ()

    def __enter__(self) -> Any:
        page = self._context.new_page()
        page.on("console", lambda told: self.complaints.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda asked: self.hosts.add(asked.url.partition("://")[2].partition("/")[0]))
        page.goto(self._address)
        page.watch = self
        return page

    def __exit__(self, kind: Any, *_: object) -> None:
        self._context.close()
        if kind is None:
            # An error's status is written to the console by the browser itself.
            assert [one for one in self.complaints if not one.startswith("Failed to load resource")] == []
            assert self.hosts - {""} == {self._address.partition("://")[2]}


def recording(rate: int = 16_000, seconds: float = 1.5, channels: int = 1) -> bytes:
    """A WAV file of noise with a falling spectrum."""
    noise = np.random.default_rng(0).normal(0.0, 0.1, (channels, round(rate * seconds)))
    return audio.encode(np.cumsum(noise, axis=1).astype(np.float32) * 0.01 + noise.astype(np.float32) * 0.5, rate)


def give(page: Any, data: bytes, name: str = "old.wav") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": data})


def idle(page: Any) -> None:
    page.wait_for_selector('body[data-busy="no"]')


def ready(page: Any) -> None:
    page.wait_for_selector("#enhance:enabled")


def enhanced(page: Any, data: bytes | None = None) -> None:
    give(page, recording() if data is None else data)
    ready(page)
    page.click("#enhance")
    page.wait_for_selector("#download:enabled")


def colours(page: Any, selector: str) -> int:
    """How many colours a canvas shows; a blank one or one with axes alone shows few."""
    return int(
        page.locator(selector).evaluate(
            """canvas => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return new Set(new Uint32Array(data.buffer)).size;
            }"""
        )
    )


def heard(page: Any) -> str:
    return str(page.locator("#listen").get_attribute("data-heard"))


def saved(page: Any, button: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.click(button)
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


# --- the way of a recording -------------------------------------------------------------------------------------------


def test_recording_is_enhanced_shown_compared_and_saved_as_the_server_made_it(page: Any, server: str) -> None:
    data = recording(channels=2)
    axes = colours(page, "#before-picture")
    enhanced(page, data)
    assert page.locator('.plot[data-filled="yes"]').count() == 2
    assert min(colours(page, "#before-picture"), colours(page, "#after-picture")) > axes + 100
    assert page.inner_text("#notice-text") == ""
    assert heard(page) == "after"
    page.locator("#loop").check(force=True)
    page.click("#play")
    page.wait_for_selector('#play[data-playing="yes"]')
    for name in ("before", "after", "before"):
        page.locator(f'[name="track"][value="{name}"]').check(force=True)
        assert heard(page) == name
        assert page.locator("#play").get_attribute("data-playing") == "yes"
    page.locator("#loop").uncheck(force=True)
    page.wait_for_selector('#play[data-playing="no"]')
    query = {"model": "1", "mode": "auto"}
    for format in ("wav", "flac"):
        page.select_option("#format", format)
        name, got = saved(page, "#download")
        assert name == f"old-overtone.{format}"
        assert got == PATIENT.post(f"{server}/v1/enhance", content=data, params=query | {"format": format}).content
        idle(page)
    name, got = saved(page, "#download-before")
    assert (name, audio.decode(got)[0].shape) == ("old-none.wav", (2, 72_000))


def test_models_stand_with_their_aliases_and_scores(page: Any) -> None:
    page.wait_for_selector("#models input:checked")
    row = " ".join(page.inner_text("#models tr").split())
    assert row.startswith("Version 1 RNN")
    assert "champion" in row
    assert row.endswith("1.25 1.50 1.00")
    page.click("#scores summary")
    assert "extend, speech: LSD" in page.inner_text("#scores-rows")


def test_sample_is_damaged_then_enhanced_as_its_condition_asks(page: Any, server: str) -> None:
    page.get_by_role("button", name="German voice").click()
    ready(page)
    assert page.input_value("#condition") == "sinc_8k"
    assert "KLettres contributors (KDE), GPL-2.0-or-later" in page.inner_text("#credit")
    with page.expect_request("**/v1/enhance*") as asked:
        page.click("#enhance")
    assert {"mode=extend", "cutoff_hz=4000"} <= set(asked.value.url.partition("?")[2].split("&"))
    page.wait_for_selector("#download:enabled")
    page.keyboard.press("o")
    assert heard(page) == "original"
    name, before = saved(page, "#download-before")
    assert name == "german-sinc_8k.wav"
    clip = PATIENT.get(f"{server}/v1/samples/german").content
    assert before == PATIENT.post(f"{server}/v1/degrade?condition=sinc_8k&format=wav", content=clip).content
    page.select_option("#condition", "mp3_mono_32k")
    ready(page)
    assert page.locator("#download").is_disabled()
    assert page.locator('[name="track"][value="after"]').is_disabled()
    with page.expect_request("**/v1/enhance*") as asked:
        page.click("#enhance")
    assert "mode=restore" in asked.value.url
    page.wait_for_selector("#download:enabled")


def test_microphone_is_recorded(page: Any) -> None:
    page.wait_for_selector("#samples button")
    page.click("#record")
    page.get_by_role("button", name="Stop (1 s)").click()
    ready(page)
    assert page.inner_text("#drop-text") == "Your recording"
    signal, rate = audio.decode(saved(page, "#download-before")[1])
    assert (rate, signal.shape[0]) == (RATE, 1)
    assert signal.shape[1] >= RATE
    assert np.abs(signal).max() > 0.01


def test_dropped_file_is_taken(page: Any) -> None:
    page.evaluate(
        """bytes => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([new Uint8Array(bytes)], "dropped.wav"));
            const options = { dataTransfer, bubbles: true, cancelable: true };
            document.getElementById("drop").dispatchEvent(new DragEvent("drop", options));
        }""",
        list(recording(seconds=0.2)),
    )
    ready(page)
    assert page.inner_text("#drop-text") == "dropped.wav"


# --- what sounds ------------------------------------------------------------------------------------------------------

Sound = npt.NDArray[np.float64]


def played(page: Any, before: Sound, after: Sound, switches: list[tuple[float, str]], stop: float = 0.0) -> Sound:
    """What the page's own player gives, rendered: `before` from the start, then the others at their times (s)."""
    return np.array(
        page.evaluate(
            """async ({ before, after, switches, stop, rate }) => {
                const { Player } = await import("/page/player.js");
                const context = new OfflineAudioContext(1, before.length, rate);
                const player = new Player(context);
                for (const [name, samples] of [["before", before], ["after", after]]) {
                    player.load(name, { rate, channels: [Float32Array.from(samples)] });
                }
                player.choose("before");
                player.play();
                const at = (time, act) => context.suspend(time).then(() => { act(); context.resume(); });
                for (const [time, name] of switches) at(time, () => player.choose(name));
                if (stop) at(stop, () => player.pause());
                return Array.from((await context.startRendering()).getChannelData(0));
            }""",
            {"before": before.tolist(), "after": after.tolist(), "switches": switches, "stop": stop, "rate": RATE},
        )
    )


def moved(values: list[tuple[float, float]], frames: int) -> Sound:
    """A gain that sets out for each value at its time (s), along a straight line of 15 ms."""
    time = np.arange(frames) / RATE
    out = np.full(frames, values[0][1])
    for start, target in values[1:]:
        held = np.interp(start, time, out)
        share = np.clip((time - start) / FADE, 0.0, 1.0)
        out = np.where(time >= start, held + (target - held) * share, out)
    return out


def test_switching_is_a_straight_fade_without_a_click(page: Any, server: str) -> None:
    data = PATIENT.get(f"{server}/v1/samples/german").content
    worse = PATIENT.post(f"{server}/v1/degrade?condition=sinc_8k&format=wav", content=data).content
    better = PATIENT.post(f"{server}/v1/enhance?cutoff_hz=4000&format=wav", content=worse).content
    before, after = (audio.decode(one)[0][0, 40_000 : 40_000 + RATE].astype(np.float64) for one in (worse, better))
    assert np.abs(before - after).max() > 1e-3
    # Whole blocks of 128 samples, where an offline context can stop; the last two in the midst of a fade.
    blocks = [(75, "after"), (150, "before"), (200, "after"), (202, "before"), (204, "after")]
    switches = [(128 * block / RATE, name) for block, name in blocks]
    out = played(page, before, after, switches)
    share = moved([(0.0, 0.0), *((at + AHEAD, float(name == "after")) for at, name in switches)], RATE)
    begun = moved([(0.0, 0.0), (AHEAD, 1.0)], RATE)
    lag = round(AHEAD * RATE)
    late = [np.concatenate([np.zeros(lag), one[:-lag]]) for one in (before, after)]
    expected = begun * ((1 - share) * late[0] + share * late[1])
    assert np.abs(out - expected).max() < 1e-4
    # No step is larger than the signals' own and what a straight fade over 720 samples adds.
    own = np.maximum(*(np.abs(np.diff(one)) for one in late))
    fade = np.abs(late[0] - late[1])[1:] / (FADE * RATE) + np.abs(out[1:]) / (FADE * RATE)
    assert (np.abs(np.diff(out)) <= own + fade + 1e-4).all()


def test_same_sound_does_not_change_in_level_while_it_is_switched(page: Any) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)
    switches = [(128 * block / RATE, name) for block, name in ((40, "after"), (80, "before"), (83, "after"))]
    out = played(page, tone, tone, switches)
    start, lag = 2_000, round(AHEAD * RATE)
    assert np.abs(out[start:] - tone[start - lag : -lag]).max() < 1e-4


def test_stop_fades_out(page: Any) -> None:
    tone = 0.5 * np.cos(2 * np.pi * 100 * np.arange(RATE // 4) / RATE)
    out = played(page, tone, tone, [], stop=128 * 40 / RATE)
    assert np.abs(np.diff(out)).max() < 0.5 * 2 * np.pi * 100 / RATE + 0.5 / (FADE * RATE) + 1e-3
    assert np.abs(out[128 * 40 + round((AHEAD + FADE) * RATE) + 2 :]).max() < 1e-6
    assert np.abs(out[2_000 : 128 * 40]).max() > 0.49


def test_loudness_is_that_of_the_recommendation_and_matching_lowers_the_louder(page: Any) -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(2 * RATE) / RATE)
    told = page.evaluate(
        """async tone => {
            const { loudness, matching } = await import("/page/loudness.js");
            const [one, half] = [1, 0.5].map(gain => Float32Array.from(tone, value => gain * value));
            const levels = { before: loudness([half]), after: loudness([one]), silent: loudness([new Float32Array(48000)]) };
            const gains = matching(levels);
            const matched = loudness([one.map(value => gains.after * value)]);
            return { ...levels, stereo: loudness([one, one]), gains, matched, silent: String(levels.silent) };
        }""",
        tone.tolist(),
    )
    # BS.1770: 997 Hz at full scale in one channel has -3.01 LKFS.
    assert told["after"] == pytest.approx(-3.01, abs=0.01)
    assert told["stereo"] == pytest.approx(0.0, abs=0.01)
    assert told["silent"] == "-Infinity"
    assert told["gains"]["before"] == told["gains"]["silent"] == 1.0
    assert told["matched"] == pytest.approx(told["before"], abs=0.01)


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_levels_are_those_of_the_fourier_transform(page: Any) -> None:
    signal = np.random.default_rng(1).normal(0.0, 0.1, 2048)
    power = page.evaluate(
        """async signal => {
            const { Transform } = await import("/page/spectrogram.js");
            const power = new Float64Array(1025);
            new Transform(2048).addPower(Float64Array.from(signal), 0, power);
            return Array.from(power);
        }""",
        signal.tolist(),
    )
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    assert np.allclose(power, np.abs(np.fft.rfft(window * signal) * 4 / 2048) ** 2, rtol=1e-9, atol=1e-15)


def test_wav_files_are_read_and_written_exactly(page: Any) -> None:
    signal = (np.random.default_rng(2).integers(-(2**15), 2**15, (2, 500)) / 32768).astype(np.float32)
    for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
        told = page.evaluate(
            """async bytes => {
                const wav = await import("/page/wav.js");
                const { rate, channels } = wav.decode(Uint8Array.from(bytes).buffer);
                const again = wav.decode(await wav.encode(channels, rate).arrayBuffer());
                const listed = sound => sound.map(one => Array.from(one));
                return { rate, channels: listed(channels), again: listed(again.channels) };
            }""",
            list(audio.encode(signal, 44_100, "wav", subtype) if subtype != "DOUBLE" else _double(signal, 44_100)),
        )
        assert told["rate"] == 44_100
        assert np.array_equal(np.float32(told["channels"]), signal), subtype
        assert np.array_equal(np.float32(told["again"]), signal), subtype


def _double(signal: audio.Signal, rate: int) -> bytes:
    import io

    buffer = io.BytesIO()
    with audio.Writer(buffer, rate, signal.shape[0], "WAV", "DOUBLE") as file:
        file.write(signal)
    return buffer.getvalue()


def test_cursor_is_shared_and_a_click_seeks_both(page: Any) -> None:
    enhanced(page)
    box = page.locator(".before .overlay").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    assert page.inner_text("#readout").count(" dB") == 2
    marked = [colours(page, f".{name} .overlay") for name in ("before", "after")]
    assert min(marked) > 1
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    assert 0.5 < float(page.input_value("#seek")) < 1.0
    assert page.inner_text("#clock").startswith("0:00.7")


# --- keys, names, sizes -----------------------------------------------------------------------------------------------


def test_keys_do_what_the_buttons_do(page: Any) -> None:
    give(page, recording(seconds=6.0))
    ready(page)
    page.locator("#enhance").press("Enter")
    page.wait_for_selector("#download:enabled")
    page.keyboard.press(" ")
    page.wait_for_selector('#play[data-playing="yes"]')
    page.keyboard.press(" ")
    page.locator("#listen").focus()
    for name, expected in (("b", "before"), ("a", "after"), ("s", "before"), ("s", "after"), ("b", "before")):
        page.keyboard.press(name)
        assert heard(page) == expected
    page.keyboard.press(" ")
    page.wait_for_selector('#play[data-playing="yes"]')
    page.keyboard.press(" ")
    page.wait_for_selector('#play[data-playing="no"]')
    at = float(page.input_value("#seek"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert float(page.input_value("#seek")) == pytest.approx(at + 0.5, abs=0.02)
    page.click("#how summary")
    page.locator("#cutoff").focus()
    page.keyboard.type("3000")
    page.keyboard.press("b")
    assert page.input_value("#cutoff") == "3000"
    assert page.inner_text("#how-text") == "auto, 3000 Hz"


def test_every_control_has_a_name_and_is_reached_by_tab(page: Any) -> None:
    enhanced(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas[role], meter, progress")]
            .filter(one => one.type !== "hidden" && !one.hidden)
            .filter(one => !(one.labels?.length || one.ariaLabel || one.textContent.trim()))
            .map(one => one.outerHTML)"""
    )
    assert nameless == []
    reached = []
    page.locator(".skip").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
    wanted = [
        "choose",
        "record",
        "condition",
        "model",
        "enhance",
        "play",
        "seek",
        "track",
        "match",
        "volume",
        "download",
    ]
    assert [name for name in reached if name in wanted][: len(wanted)] == wanted
    assert "blind-start" in reached


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (820, "dark")])
def test_narrow_windows_hold_the_page(browser: Any, server: str, width: int, scheme: str) -> None:
    with Opened(browser, server, color_scheme=scheme) as page:
        page.set_viewport_size({"width": width, "height": 800})
        before = page.locator("#listen").bounding_box()
        enhanced(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#listen").bounding_box()["width"] == before["width"]
        assert page.locator("#play").is_visible()


# --- the blind test ---------------------------------------------------------------------------------------------------


def test_chance_is_that_of_guessing(page: Any) -> None:
    cases = [(k, n) for n in (1, 5, 10, 20, 300) for k in {0, 1, n // 2, n - 1, n}]
    told = page.evaluate(
        """async cases => {
            const { chance } = await import("/page/trial.js");
            return cases.map(([right, count]) => chance(right, count));
        }""",
        cases,
    )
    assert np.allclose(told, [scipy.stats.binom.sf(k - 1, n, 0.5) for k, n in cases], rtol=1e-9)


def test_x_is_either_as_often(page: Any) -> None:
    drawn = page.evaluate(
        """async () => {
            const { Test } = await import("/page/trial.js");
            const test = new Test(1000);
            while (!test.done) test.answer("a");
            return test.right;
        }"""
    )
    # Six standard deviations.
    assert abs(drawn - 500) < 95


@pytest.mark.parametrize(("answers", "right", "p"), [("11111", 5, 1 / 32), ("12122", 2, 26 / 32)])
def test_blind_test_tells_nothing_until_its_result(
    browser: Any, server: str, answers: str, right: int, p: float
) -> None:
    with Opened(browser, server) as page:
        # X is always A, as the page's own draw would have it from these bytes.
        page.evaluate("() => { crypto.getRandomValues = array => array.fill(0); }")
        enhanced(page)
        page.select_option("#trials", "5")
        page.click("#blind-start")
        for number, answer in enumerate(answers, 1):
            assert page.inner_text("#blind-count") == f"Trial {number} of 5"
            for letter in "abx":
                page.keyboard.press(letter)
                assert page.locator('[name="blind"]:checked').get_attribute("value") == letter
                assert heard(page) == "secret"
                assert page.locator('[name="track"]:checked, [data-heard="yes"]').count() == 0
            page.keyboard.press(answer)
        assert f"{right} of 5 right" in page.inner_text("#blind-result")
        assert f"probability {p:.3f}" in page.inner_text("#blind-result")
        assert heard(page) in ("before", "after")
        name, data = saved(page, "#blind-save")
        result = json.loads(data)
        assert (name, result["right"], result["trials"]) == ("overtone-abx.json", right, 5)
        assert result["p_value"] == pytest.approx(p)
        assert result["model"] == "RNN version 1"
        page.click("#blind-again")
        page.click("#blind-stop")
        assert page.inner_text("#blind-result") == ""


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"This is a text, whatever its name says.\n" * 20, "old.wav: not readable as audio"),
        (b"", "The request is empty; expected the bytes of an audio file as its body."),
    ],
    ids=["text", "empty"],
)
def test_bad_input_is_told_in_a_sentence_and_the_next_is_taken(page: Any, data: bytes, words: str) -> None:
    give(page, data)
    page.wait_for_selector("#notice:not([hidden])")
    told = page.inner_text("#notice-text")
    assert words in told
    assert told.endswith(".")
    assert page.locator("#enhance").is_disabled()
    enhanced(page)
    assert page.locator("#notice").is_hidden()


def test_work_can_be_cancelled(page: Any) -> None:
    give(page, recording())
    ready(page)
    page.route("**/v1/enhance*", lambda route: None)
    page.click("#enhance")
    page.click("#cancel")
    idle(page)
    assert page.inner_text("#progress-text") == "Cancelled."
    assert page.locator("#notice").is_hidden()
    page.unroute_all(behavior="ignoreErrors")
    page.click("#enhance")
    page.wait_for_selector("#download:enabled")


def test_key_is_asked_for_and_limits_and_a_stopped_server_are_told(
    browser: Any, root: Path, environment: dict[str, str]
) -> None:
    arguments = ("--workers", "1", "--max-megabytes", "1")
    with (
        started(root, environment | {security.VARIABLE: KEY}, *arguments) as (address, process, _),
        Opened(browser, address) as page,
    ):
        page.fill("#key", f"{KEY}-wrong")
        with page.expect_response(lambda answer: answer.status == 401):
            page.keyboard.press("Enter")
        page.wait_for_selector("#key-dialog[open]")
        page.locator("#key").fill(KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#models input:checked")
        assert page.evaluate("sessionStorage.getItem('overtone-key')") == KEY
        enhanced(page)
        give(page, bytes(3_000_000), "large.wav")
        page.wait_for_selector("#notice:not([hidden])")
        assert "too large; expected at most 1 MB" in page.inner_text("#notice-text")
        give(page, recording())
        ready(page)
        process.terminate()
        process.wait(timeout=60)
        page.click("#enhance")
        page.wait_for_selector("#notice:not([hidden])")
        assert page.inner_text("#notice-text") == "The server does not answer. Is overtone serve still running?"
        page.watch.complaints.clear()
