"""Laws of the models that a server holds: followed, swapped, few, and never waiting for a registry that hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import pytest

from conftest import ModelMaker
from overtone.errors import OvertoneError
from overtone.registry import resolve
from overtone.serving import logs, models, server
from overtone.serving.errors import Refused
from overtone.serving.models import ModelCache
from overtone.serving.options import Options
from test_http import sound

FOLLOWING = Options(model="champion", kept_models=1, registry_seconds=60.0, poll_seconds=0.01)


@pytest.fixture
def named(make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions `1` to `4` as model folders, the last one broken; a reference means what this table says."""
    folders = {str(number): make_model(f"v{number}", seed=number) for number in range(1, 5)}
    (folders["4"] / "weights.safetensors").write_bytes(b"bad")
    means = {"champion": "1"}
    monkeypatch.setattr(resolve, "version", lambda name: means.get(name, name))
    monkeypatch.setattr(resolve, "folder", lambda name: (folders[str(means.get(name, name))], name))
    return means


def test_swap_leaves_requests_the_model_they_began_with(named: dict[str, str]) -> None:
    changes: list[str] = []

    async def run() -> None:
        cache = ModelCache(FOLLOWING, lambda loaded, _: changes.append(loaded.version))
        with pytest.raises(Refused, match="not loaded yet"):
            await cache.get(None)
        await cache.refresh()
        held = await cache.get(None)
        named["champion"] = "2"
        await cache.refresh()
        assert (held.version, (await cache.get("auto")).version) == ("1", "2")
        assert np.isfinite(held.upsampler.enhance(sound(), 16_000)).all()

    asyncio.run(run())
    assert changes == ["1", "2"]


def test_broken_champion_is_not_switched_to(named: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        cache = ModelCache(FOLLOWING)
        await cache.refresh()
        named["champion"] = "4"
        following = asyncio.create_task(cache.follow())
        while not caplog.records:
            await asyncio.sleep(0.01)
        assert cache.require_loaded().version == "1"
        named["champion"] = "3"
        while cache.require_loaded().version == "1":
            await asyncio.sleep(0.01)
        assert cache.require_loaded().version == "3"
        following.cancel()

    asyncio.run(run())
    assert "1 stays" in caplog.text and "weights.safetensors" in caplog.text
    assert caplog.text.count("stays") == 1, "what is known to be broken is not tried at every look"


def test_few_models_are_kept(named: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        cache = ModelCache(FOLLOWING)
        await cache.refresh()
        two = await cache.get("2")
        assert await cache.get("2") is two
        assert (await cache.get("champion")) is cache.require_loaded() is (await cache.get("1"))
        await cache.get("3")
        assert await cache.get("2") is not two
        with pytest.raises(Refused, match="cannot be used; the server's log says why"):
            await cache.get("4")
        assert "weights.safetensors" in caplog.text

    asyncio.run(run())


def test_model_that_makes_no_audio_is_broken(make_model: ModelMaker) -> None:
    import torch

    from overtone.models.model import Model

    folder = make_model()
    model = Model.load(folder)
    with torch.no_grad():
        next(iter(model.extend.parameters())).fill_(float("nan"))
    model.save(folder)
    with pytest.raises(OvertoneError, match="does not make audio"):
        models.load(folder, "7")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", None),
        ("cuda:1", None),
        ("cuda:2", "device cuda:2: not found; torch finds cuda:0, cuda:1 here"),
        ("xpu", "device xpu: not found; torch finds no xpu here"),
        ("abacus", "device abacus: no device of torch; expected cpu, cuda, cuda:1 or another"),
    ],
)
def test_device_that_is_not_there_is_refused_before_anything_listens(
    monkeypatch: pytest.MonkeyPatch, device: str, message: str | None
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    begun: list[Options] = []

    def listening(options: Options) -> AbstractContextManager[FakeSocket]:
        begun.append(options)
        return nullcontext(FakeSocket())

    monkeypatch.setattr(server, "_listening", listening)
    monkeypatch.setattr(server, "_run_here", lambda *_: None)
    if message is None:
        server.run(Options(device=device))
        assert len(begun) == 1
    else:
        with pytest.raises(OvertoneError, match=message):
            server.run(Options(device=device))
        assert not begun


class FakeSocket:
    """What `server.run` asks of a socket that listens."""

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8000


@pytest.fixture
def hanging(named: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A registry that says nothing while this is set."""
    hangs, over, version = threading.Event(), threading.Event(), resolve.version

    def asked(name: str) -> str:
        if hangs.is_set():
            over.wait(60)
        return version(name)

    monkeypatch.setattr(resolve, "version", asked)
    monkeypatch.setattr(resolve, "known", lambda: [resolve.Known("champion", asked("champion"), (), "rnn", {})])
    yield hangs
    over.set()


def test_hanging_registry_delays_no_model_that_is_loaded(hanging: threading.Event, named: dict[str, str]) -> None:
    named["challenger"] = "2"

    async def run() -> None:
        cache = ModelCache(replace(FOLLOWING, kept_models=2))
        await cache.refresh()
        challenger = await cache.get("challenger")
        known = await cache.known()
        assert [one.version for one in known] == ["1"]
        hanging.set()
        cache._options = replace(FOLLOWING, registry_seconds=0.05)
        following = asyncio.create_task(cache.follow())
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            assert (await cache.get(None)).version == "1"
            assert await cache.get("challenger") is challenger
            assert await cache.get("2") is challenger
            assert await cache.known() == known, "what was known before"
            with pytest.raises(Refused, match="the registry does not answer"):
                await cache.get("3")
        following.cancel()

    asyncio.run(run())
