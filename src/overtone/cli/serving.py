"""Sound as it comes: the server, and this machine's microphone."""

from __future__ import annotations

import inspect
import threading
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from overtone.cli.app import app
from overtone.errors import OvertoneError, needs_extra
from overtone.serving.options import Options

if TYPE_CHECKING:
    from overtone.serving.live import SoundCard


def _serve(
    *,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key that requests must show; or the key itself in OVERTONE_API_KEY.",
            envvar="OVERTONE_API_KEY_FILE",
        ),
    ] = None,
    insecure_no_key: Annotated[bool, typer.Option(help="Listen without a key where others reach the server.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print what came in so far, by day, and serve nothing.")
    ] = False,
    **given: Any,
) -> None:
    """Serve enhancement over HTTP: files, jobs, live streams, a page at /.

    Every option can be set in the environment, as OVERTONE_SERVE_PORT and so on.

    Example: overtone serve --port 8000
    """
    from overtone.settings import project

    state: Path = given.pop("state") or project.cache().parent / "serving"
    if report:
        from overtone.serving import statistics

        typer.echo(statistics.as_text(statistics.Statistics(state).report()))
        return
    from overtone.serving import security, server

    key = security.read_key(api_key_file)
    security.require_key(given["host"], key, insecure_no_key)
    server.run(Options(**given, state=state, key=key))


def _parameters() -> list[inspect.Parameter]:
    """Those of `_serve`, with an option for each field of `Options`."""
    own, types = get_type_hints(_serve, include_extras=True), get_type_hints(Options)
    found = [
        one.replace(annotation=own[one.name])
        for one in inspect.signature(_serve).parameters.values()
        if one.kind is not one.VAR_KEYWORD
    ]
    for one in (one for one in fields(Options) if one.metadata):
        option, kind = one.metadata["option"], types[one.name]
        found.append(
            inspect.Parameter(
                one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=Annotated[kind, option]
            )
        )
    return found


# Typer asks for both.
_PARAMETERS = _parameters()
_serve.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]
_serve.__annotations__ = {one.name: one.annotation for one in _PARAMETERS}
app.command("serve", context_settings={"auto_envvar_prefix": "OVERTONE_SERVE"})(_serve)


@app.command()
def live(
    model: Annotated[str, typer.Option(help="As of `overtone enhance`.")] = "auto",
    mode: Annotated[Literal["extend", "restore"], typer.Option(help="extend, or restore to repair too.")] = "extend",
    cutoff: Annotated[float, typer.Option(min=1, help="Hz above which the microphone gives nothing.")] = 8_000.0,
    rate: Annotated[
        int, typer.Option(min=8_000, max=192_000, help="Of the microphone, Hz; 48000 delays least.")
    ] = 48_000,
    brightness: Annotated[float, typer.Option(min=-6, max=6, help="dB by which what is added is brighter.")] = 0.0,
    microphone: Annotated[str | None, typer.Option(help="Device to record: a part of its name, or its number.")] = None,
    headphones: Annotated[str | None, typer.Option(help="Device to play on.")] = None,
    devices: Annotated[bool, typer.Option("--devices", help="List the devices, and do nothing.")] = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Until it ends. Default: Ctrl-C ends it.")] = None,
) -> None:
    """Enhance what the microphone records and play it in the headphones, some 25 ms and the sound card's delay later.

    Use headphones: a loudspeaker's sound would come back through the microphone.

    Example: overtone live --cutoff 4000 --rate 16000
    """
    try:
        with needs_extra("`overtone live`"):
            import sounddevice
    except OSError:
        raise OvertoneError(
            "`overtone live` needs PortAudio, which is not installed: apt install libportaudio2, "
            "or dnf install portaudio"
        ) from None
    if devices:
        typer.echo(str(sounddevice.query_devices()))
        return
    from overtone.registry import resolve
    from overtone.serving.live import LiveSettings, LiveStream, SoundCard

    upsampler, name = resolve.upsampler(model)
    settings = LiveSettings(rate=rate, mode=mode, cutoff_hz=min(cutoff, rate / 2), brightness=brightness)
    stream = LiveStream(upsampler, settings)
    card, stop = SoundCard(stream), threading.Event()
    typer.echo(f"{name}: {stream.facts['latency_ms']:g} ms and the sound card's own delay; Ctrl-C ends it", err=True)
    if seconds is not None:
        threading.Timer(seconds, stop.set).start()
    _play_through(sounddevice, card, stop, (rate, upsampler.rate), (_device(microphone), _device(headphones)))
    typer.echo(f"{card.gaps} gaps", err=True)


def _play_through(
    sounddevice: Any,
    card: SoundCard,
    stop: threading.Event,
    rates: tuple[int, int],
    devices: tuple[str | int | None, str | int | None],
) -> None:
    def record(data: Any, *_: Any) -> None:
        card.record(bytes(data))

    def play(data: Any, *_: Any) -> None:
        data[:] = card.play(len(data))

    common: dict[str, Any] = {"channels": 1, "dtype": "float32", "latency": "low"}
    try:
        with (
            sounddevice.RawInputStream(samplerate=rates[0], device=devices[0], callback=record, **common),
            sounddevice.RawOutputStream(samplerate=rates[1], device=devices[1], callback=play, **common),
        ):
            card.run(stop)
    except sounddevice.PortAudioError as error:
        raise OvertoneError(f"the sound card cannot be used: {error}; `overtone live --devices` lists them") from None
    except KeyboardInterrupt:
        return


def _device(name: str | None) -> str | int | None:
    return int(name) if name is not None and name.isdecimal() else name
