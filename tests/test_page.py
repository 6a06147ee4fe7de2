"""Laws of the page, in a real browser against a real server: what is heard, seen, saved, and shown when something is wrong."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from overtone import audio
from overtone.serving.conditions import SAMPLES
from overtone.serving.levels import BANDS, COLUMNS, TOP_HZ, levels
from overtone.serving.security import VARIABLE
from test_http import KEY, RATE, started

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Iterator[str]:
    options = ("--model", str(tiny_model("rnn")), "--workers", "1", "--jobs-per-client", "100")
    with started(tmp_path_factory.mktemp("page"), environment, *options) as (found, _, _):
        yield f"{found}/"


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page, open and watched: nothing complains, and nothing else is asked for anything."""
    context = browser.new_context(permissions=["microphone"], **{"viewport": {"width": 1280, "height": 900}} | options)
    context.set_default_timeout(60_000)
    # What is uploaded, request by request: browsers do not show it otherwise.
    context.add_init_script(
        """window.uploads = [];
        const send = XMLHttpRequest.prototype.send;
        XMLHttpRequest.prototype.send = function (body) {
            window.uploads.push([...body].map(([field, file]) => `${field} ${file.name}`));
            send.call(this, body);
        };"""
    )
    page = context.new_page()
    complaints: list[str] = []
    requests: list[Any] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request))
    page.requests = requests
    try:
        page.goto(address)
        page.wait_for_selector("#samples button, dialog[open]")
        yield page
        # An error's status is written to the console by the browser itself.
        assert [one for one in complaints if not one.startswith("Failed to load resource")] == []
        assert all(one.url.startswith((address, f"blob:{address}")) for one in requests)
    finally:
        context.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with opened(browser, address) as found:
        yield found


def recording(rate: int = 16_000, seconds: float = 1.5, channels: int = 1) -> bytes:
    """A WAV file of noise with a falling spectrum."""
    noise = np.random.default_rng(0).normal(0.0, 0.1, (channels, round(rate * seconds)))
    return audio.encode(np.cumsum(noise, axis=1).astype(np.float32) * 0.01 + noise.astype(np.float32) * 0.5, rate)


def telephone_call() -> bytes:
    buffer = io.BytesIO()
    with audio.Writer(buffer, 8_000, 1, "WAV", "GSM610") as file:
        file.write(np.random.default_rng(0).normal(0.0, 0.1, (1, 8_000)).astype(np.float32))
    return buffer.getvalue()


def give(page: Any, *files: tuple[str, bytes], to: str = "#file") -> None:
    page.set_input_files(to, [{"name": name, "mimeType": "audio/wav", "buffer": data} for name, data in files])


def enhance(page: Any, state: str = "done") -> None:
    page.click("#enhance:enabled")
    page.wait_for_selector('body[data-busy="no"]')
    page.wait_for_selector(f'li[data-state="{state}"]')


# Whether a canvas shows more colours than axes alone do.
COLOURS = """id => {
    const canvas = document.getElementById(id);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size > 60;
}"""


def heard(page: Any) -> str:
    return str(page.locator("#listen").get_attribute("data-heard"))


def saved(page: Any, format: str) -> tuple[str, bytes]:
    page.select_option("#format", format)
    with page.expect_download() as waiting:
        page.click("#download:enabled")
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def jobs(page: Any) -> list[str]:
    """The addresses of the requests that began a job."""
    return [one.url for one in page.requests if one.method == "POST" and "/v1/jobs" in one.url]


# --- recordings ---------------------------------------------------------------------------------------------------------


def test_recordings_are_uploaded_once_compared_and_saved_in_any_format(page: Any) -> None:
    page.evaluate(
        """() => {
            window.seen = new Set();
            const look = () => document.querySelectorAll(".state").forEach(one => window.seen.add(one.textContent));
            new MutationObserver(look).observe(document.body, { subtree: true, childList: true });
        }"""
    )
    give(page, ("one.wav", recording(channels=2)), ("call.wav", telephone_call()))
    assert page.inner_text("#enhance") == "Enhance 2 recordings"
    enhance(page)
    assert page.locator('li[data-state="done"]').count() == 2
    assert {"uploading 100 %", "almost there"} <= set(page.evaluate("[...window.seen]"))
    # The browser cannot play GSM: it hears what the server decoded.
    page.wait_for_selector('[name="track"][value="before"]:enabled')
    page.click('button.pick:has-text("one.wav")')
    assert "narrow band: stored at 16000 hz" in page.inner_text("#found").lower()
    assert page.inner_text("#done").endswith(".")
    for name in ("before", "after"):
        page.wait_for_function(COLOURS, arg=f"{name}-picture")
    for format in ("flac", "mp3"):
        name, data = saved(page, format)
        assert (name, audio.decode(data)[0].shape) == (f"one-enhanced.{format}", (2, 72_000))
    assert len(jobs(page)) == 2
    page.click("#more summary")
    page.locator('[name="mode"][value="restore"]').check(force=True)
    enhance(page)
    assert all("source=" in url and "mode=restore" in url for url in jobs(page)[2:])
    assert page.evaluate("uploads") == [["file one.wav"], ["file call.wav"]]
    page.click('button[aria-label="Remove one.wav"]')
    assert page.inner_text("#listen-title") == "call.wav"


def test_sample_is_damaged_first_and_its_original_can_be_heard(page: Any) -> None:
    page.get_by_role("button", name="German voice").click()
    enhance(page)
    assert "condition=sinc_8k" in jobs(page)[0]
    for name in ("original", "before", "after"):
        page.locator(f'[name="track"][value="{name}"]').check(force=True)
        assert heard(page) == name


def test_dropped_recording_is_enhanced_after_the_reference_dropped_beside_it(page: Any) -> None:
    page.click("#more summary")
    for target, data in (("drop", recording()), ("reference", (SAMPLES / "german.flac").read_bytes())):
        page.evaluate(
            """([target, bytes]) => {
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File([new Uint8Array(bytes)], `${target}.wav`));
                document.getElementById(target).dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
            }""",
            [target, list(data)],
        )
    assert page.locator(".name").all_inner_texts() == ["drop.wav"]
    enhance(page)
    assert page.evaluate("uploads") == [["file drop.wav", "reference reference.wav"]]


def test_microphone_is_recorded(page: Any) -> None:
    page.click("#record")
    page.wait_for_function("() => /Stop .[1-9]/.test(document.getElementById('record-text').textContent)")
    page.click("#record")
    page.wait_for_selector("#recordings li")
    enhance(page)
    signal, rate = audio.decode(saved(page, "wav")[1])
    assert rate == RATE and signal.shape[0] == 1 and signal.shape[1] >= RATE
    assert np.abs(signal).max() > 0.01


def test_versions_are_at_the_same_place_whichever_is_heard(page: Any) -> None:
    give(page, ("old.wav", recording(seconds=6.0)))
    enhance(page)
    page.wait_for_function("() => document.getElementById('seek').max === '6'")
    for place, (key, expected) in enumerate((("b", "before"), ("s", "after"), ("b", "before"))):
        page.keyboard.press(key)
        assert (heard(page), float(page.input_value("#seek"))) == (expected, 2.0 * place)
        page.keyboard.press("ArrowRight" if place < 2 else "ArrowLeft")
    page.keyboard.press(" ")
    page.wait_for_selector('#play[data-playing="yes"]')
    page.keyboard.press(" ")
    page.wait_for_selector('#play[data-playing="no"]')
    box = page.locator(".before .overlay").bounding_box()
    page.mouse.click(box["x"] + 34 + (box["width"] - 40) / 2, box["y"] + 50)
    assert float(page.input_value("#seek")) == pytest.approx(3.0, abs=0.05)


# --- live ---------------------------------------------------------------------------------------------------------------


def test_microphone_is_enhanced_live_and_its_latency_shown(page: Any) -> None:
    page.click("#live-tab")
    page.click("#live-start")
    page.wait_for_function(
        r"() => /^Latency \d+ ms, of which the model 25 ms/.test(document.getElementById('live-text').innerText)"
    )
    for name in ("before", "after"):
        page.wait_for_function(COLOURS, arg=f"live-{name}")
    # A telephone's band is sent: nothing above 16 kHz.
    assert page.evaluate(
        """() => {
            const canvas = document.getElementById("live-before");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height / 3);
            return data.every((value, index) => index % 4 === 3 || value < 20);
        }"""
    )
    page.click("#live-start")
    assert page.inner_text("#live-start") == "Start" and page.inner_text("#live-text") == ""


# --- for everyone -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing_and_windows_of_any_width_hold_the_page(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(page: Any) -> None:
        assert [f"{one['id']}: {one['help']}" for one in axe.run(page).response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    with opened(browser, address, viewport={"width": width, "height": 740}, color_scheme=scheme) as page:
        give(page, (f"a_{'very_' * 20}long_name.wav", recording()))
        check(page)
        enhance(page)
        page.click("#more summary")
        page.click("#blind-start")
        check(page)
        page.click("#live-tab")
        page.click("#live-start")
        page.wait_for_function("() => document.getElementById('live-text').innerText.startsWith('Latency')")
        check(page)


def test_keyboard_alone_reaches_everything(page: Any) -> None:
    give(page, ("old.wav", recording()))
    page.locator("#enhance").press("Enter")
    page.wait_for_selector("#download:enabled")
    page.wait_for_function("() => document.activeElement.id === 'play'")
    page.locator("#files-tab").focus()
    reached = []
    for _ in range(17):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
    wanted = ["choose", "record", "play", "seek", "track", "volume", "format", "download", "blind-start"]
    assert [name for name in reached if name in wanted] == wanted
    page.locator("#files-tab").press("ArrowRight")
    assert page.locator("#live").is_visible() and page.evaluate("document.activeElement.id") == "live-tab"


# --- the blind test -----------------------------------------------------------------------------------------------------


def test_blind_test_tells_nothing_until_its_result(page: Any) -> None:
    # X is always A, as the page's own draw would have it from these bytes.
    page.evaluate("() => { crypto.getRandomValues = array => array.fill(0); }")
    give(page, ("old.wav", recording()))
    enhance(page)
    page.click("#blind-start")
    for number, answer in enumerate("1221111111", 1):
        assert page.inner_text("#blind-count") == f"Trial {number} of 10."
        for letter in "abx":
            page.keyboard.press(letter)
            assert page.locator('[name="blind"]:checked').get_attribute("value") == letter
            assert heard(page) == "secret"
            assert page.locator('[name="track"]:checked').count() == 0
        page.keyboard.press(answer)
    assert page.inner_text("#blind-result").startswith("8 of 10 right")
    assert f"a probability of {scipy.stats.binom.sf(7, 10, 0.5):.3f}" in page.inner_text("#blind-result")
    assert heard(page) in ("before", "after")


# --- what goes wrong ----------------------------------------------------------------------------------------------------


def test_bad_file_gets_a_sentence_and_the_others_are_enhanced(page: Any) -> None:
    give(page, ("text.wav", b"This is a text, whatever its name says.\n" * 20), ("old.wav", recording()))
    enhance(page)
    sentence = page.inner_text('li[data-state="failed"] .state')
    assert sentence.startswith("Not readable as audio") and sentence.endswith(".")
    assert page.inner_text("#enhance") == "Enhance"


def test_work_can_be_cancelled(page: Any) -> None:
    give(page, ("old.wav", recording()))
    page.route("**/v1/jobs/*", lambda route: None if route.request.method == "GET" else route.fallback())
    with page.expect_request(lambda one: one.method == "GET" and "/v1/jobs/" in one.url):
        page.click("#enhance")
    with page.expect_request(lambda one: one.method == "DELETE"):
        page.click("#cancel")
    page.wait_for_selector('li[data-state="new"]')
    page.unroute_all(behavior="ignoreErrors")
    enhance(page)


def test_key_is_asked_for_and_limits_and_a_stopped_server_are_shown(
    browser: Any, tiny_model: Callable[[str], Path], environment: dict[str, str], tmp_path: Path
) -> None:
    options, locked = ("--model", str(tiny_model("rnn")), "--job-megabytes", "1"), environment | {VARIABLE: KEY}
    with (
        started(tmp_path, locked, *options, "--grace", "1") as (address, process, _),
        opened(browser, f"{address}/") as page,
    ):
        page.fill("#key", f"{KEY}-wrong")
        with page.expect_response(lambda answer: answer.status == 401):
            page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('key').value === ''")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#samples button")
        give(page, ("old.wav", recording()), ("large.wav", bytes(3_000_000)))
        enhance(page)
        assert "large" in page.inner_text('li[data-state="failed"] .state')
        page.click('button.pick:has-text("old.wav")')
        page.wait_for_selector("#play:enabled")
        assert heard(page) == "after"
        page.click("#live-tab")
        page.click("#live-start")
        page.wait_for_function("() => document.getElementById('live-text').innerText.startsWith('Latency')")
        process.terminate()
        process.wait(30)
        page.wait_for_selector("#notice:not([hidden])")
        assert page.inner_text("#notice-text") == "The live connection ended."
        page.click("#files-tab")
        enhance(page, "failed")
        assert "Is overtone serve still running?" in page.inner_text('li[data-state="failed"] .state')


# --- sizes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_levels_show_a_tone_where_and_when_it_is(rate: int) -> None:
    time = np.arange(4 * rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 3_050 * time) * (time >= 2)
    found = np.frombuffer(levels(io.BytesIO(audio.encode(tone[None].astype(np.float32), rate))), np.uint8)
    shown = found.reshape(COLUMNS, BANDS)
    assert shown[: COLUMNS // 2 - 10].max() == 0
    assert (shown[COLUMNS // 2 + 10 :].argmax(axis=1) == 3_050 * BANDS // TOP_HZ).all()
    assert len(levels(io.BytesIO(audio.encode(np.zeros((2, 10), np.float32), rate)))) == COLUMNS * BANDS


@pytest.mark.long
def test_half_an_hour_takes_little_of_the_tabs_memory(page: Any, tmp_path: Path) -> None:
    import psutil

    def megabytes() -> float:
        """Of the largest of the browser's renderers."""
        found = [
            one for one in psutil.Process().children(recursive=True) if "--type=renderer" in " ".join(one.cmdline())
        ]
        return max(one.memory_info().rss for one in found) / 1e6

    page.set_default_timeout(600_000)
    noise = np.random.default_rng(0).normal(0.0, 0.1, (1, 1800 * RATE)).astype(np.float32)
    (tmp_path / "long.mp3").write_bytes(audio.encode(noise, RATE, "mp3"))
    page.set_input_files("#file", tmp_path / "long.mp3")
    enhance(page)
    highest = megabytes()
    for key in ("b", "a"):
        page.keyboard.press(key)
        page.keyboard.press(" ")
        page.wait_for_selector('#play[data-playing="yes"]')
        for minute in range(5, 30, 5):
            page.locator("#seek").fill(str(60 * minute))
            page.wait_for_timeout(400)
            highest = max(highest, megabytes())
        page.keyboard.press(" ")
    assert len(saved(page, "mp3")[1]) > 1_000_000
    highest = max(highest, megabytes())
    print(f"{highest:.0f} MB of the tab's memory")
    assert highest < 500
