"""Live sound of this machine's microphone."""

from __future__ import annotations

import threading
from typing import Annotated, Any, Literal

import typer

from overtone.cli.app import app
from overtone.errors import OvertoneError, needs_extra


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
    _run(sounddevice, card, stop, rate, upsampler.rate, (_device(microphone), _device(headphones)))
    typer.echo(f"{card.gaps} gaps", err=True)


def _run(
    sounddevice: Any, card: Any, stop: threading.Event, rate: int, out_rate: int, devices: tuple[str | int | None, ...]
) -> None:
    def record(data: Any, *_: Any) -> None:
        card.record(bytes(data))

    def play(data: Any, *_: Any) -> None:
        data[:] = card.play(len(data))

    common = {"channels": 1, "dtype": "float32", "latency": "low"}
    try:
        with (
            sounddevice.RawInputStream(samplerate=rate, device=devices[0], callback=record, **common),
            sounddevice.RawOutputStream(samplerate=out_rate, device=devices[1], callback=play, **common),
        ):
            card.run(stop)
    except KeyboardInterrupt:
        return
    except sounddevice.PortAudioError as error:
        raise OvertoneError(f"the sound card cannot be used: {error}; `overtone live --devices` lists them") from None


def _device(name: str | None) -> str | int | None:
    return int(name) if name is not None and name.isdecimal() else name
