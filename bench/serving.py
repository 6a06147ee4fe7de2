"""What does serving over HTTP cost beside the model itself?

    python bench/serving.py                            # models/rnn: throughput, one request, memory, live
    python bench/serving.py released/rnn --parts throughput live --processes 2 --workers 1
    python bench/serving.py released/rnn --parts slow streams batch
    python bench/serving.py --untrained --requests 40 --clients 4

Starts `overtone serve` on a network as ONNX graph, and sends it 16 kHz WAV clips from this process, on the same cores.
Alternating with it the model works alone, array to array in as many processes as the server has threads. Cores that others
use too slow both down: look at the ratios, and at CPU time.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import measure

RATE = 16_000
# Rounds of the model alone and of the server, so that what else the cores do slows both down alike.
ROUNDS = 5
PARTS = ("throughput", "request", "memory", "live", "streams", "slow", "batch")
MBIT = 1_000_000 / 8


def clip(seconds: float) -> bytes:
    """Noise as a WAV file."""
    from overtone import audio

    return audio.encode(noise(seconds), RATE)


def noise(seconds: float):  # type: ignore[no-untyped-def]
    """Noise as an array (1, samples)."""
    import numpy as np

    return (0.1 * np.random.default_rng(0).standard_normal((1, round(seconds * RATE)))).astype(np.float32)


# --- the server and the model alone -----------------------------------------------------------------------------------


class Server:
    """A running `overtone serve`."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.host, self.port = urlsplit(address).hostname, urlsplit(address).port
        self.address = address

    def connect(self) -> http.client.HTTPConnection:
        """A connection of one client."""
        return http.client.HTTPConnection(self.host or "", self.port, timeout=600)

    def meter(self, name: str) -> float:
        """A value of `/metrics`."""
        connection = self.connect()
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


@contextmanager
def server(folder: Path, workers: int, *arguments: str) -> Iterator[Server]:
    """`overtone serve` of a model folder on a free port."""
    command = [sys.executable, "-m", "overtone", "serve", "--port", "0", "--model", str(folder), "--no-access-log"]
    process = subprocess.Popen(
        [*command, "--workers", str(workers), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        address = ""
        for line in process.stderr or ():
            address = address or "".join(re.findall(r"listening on (http://[\w.:]+)", line))
            if "serving" in line:
                break
        # The pipe must not fill.
        pool = ThreadPoolExecutor(1)
        pool.submit((process.stderr or sys.stdin).read)
        yield Server(process, address)
    finally:
        process.terminate()
        process.wait(timeout=60)


@functools.cache
def loaded(folder: Path) -> Any:
    """The model in this process, on one thread."""
    import torch

    from overtone.enhance.upsampler import Upsampler

    torch.set_num_threads(1)
    return Upsampler.load(folder)


def offline(folder: Path, seconds: float, count: int) -> float:
    """Enhance clips in this process: seconds of CPU that it took."""
    upsampler, signal = loaded(folder), noise(seconds)
    cpu = time.process_time()
    for _ in range(count):
        upsampler.enhance(signal, RATE)
    return time.process_time() - cpu


def send(at: Server, body: bytes, clients: int, requests: int) -> float:
    """Requests of several clients at once, the next as soon as the last is answered; seconds by the clock.

    Raises:
        RuntimeError: an answer is no whole file.
    """
    shares = [requests // clients + (index < requests % clients) for index in range(clients)]

    def one(count: int) -> None:
        connection = at.connect()
        for _ in range(count):
            connection.request("POST", "/v1/enhance", body)
            answer = connection.getresponse()
            data = answer.read()
            if answer.status != 200 or int.from_bytes(data[4:8], "little") + 8 != len(data):
                raise RuntimeError(f"{answer.status}: {data[:200]!r}")

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, shares))
    return time.perf_counter() - begun


# --- the questions -----------------------------------------------------------------------------------------------


def throughput(folder: Path, workers: int, processes: int, clients: int, requests: int) -> None:
    """Many clients against the model's own work on the same cores, alternating."""
    table = measure.Table({"round": "d", "offline, clips/s": ".2f", "served, clips/s": ".2f", "ratio": ".2f"})
    body, share = clip(10.0), requests // ROUNDS
    spent, ratios = [0.0, 0.0], []
    total = workers * processes
    several = ("--processes", str(processes))
    with ProcessPoolExecutor(total, get_context("spawn")) as pool, server(folder, workers, *several) as at:

        def alone(count: int) -> float:
            begun = time.perf_counter()
            spent[0] += sum(pool.map(offline, [folder] * total, [10.0] * total, [count] * total))
            return count * total / (time.perf_counter() - begun)

        alone(1), send(at, body, clients, clients)
        spent[0] = 0.0
        for number in range(ROUNDS):
            own = alone(share // total)
            cpu = at.meter("process_cpu_seconds_total")
            rate = share / send(at, body, clients, share)
            spent[1] += at.meter("process_cpu_seconds_total") - cpu
            ratios.append(rate / own)
            table.row(number + 1, own, rate, ratios[-1])
    own_cpu, cpu = spent[0] / (ROUNDS * (share // total) * total), spent[1] / (ROUNDS * share)
    print(f"{clients} clients, {ROUNDS * share} requests, no error; median ratio {statistics.median(ratios):.2f}")
    if processes == 1:
        print(f"CPU ms a clip: {1000 * own_cpu:.0f} offline, {1000 * cpu:.0f} served, ratio {own_cpu / cpu:.2f}")


def request(folder: Path, runs: int) -> None:
    """One client, one clip at a time, alternating with the model alone."""
    upsampler, signal, body = loaded(folder), noise(10.0), clip(10.0)
    table = measure.Table({"10 s clip": "<24", "median ms": ".0f", "least ms": ".0f", "CPU ms": ".0f"})
    with server(folder, 1) as at:
        times: dict[str, list[float]] = {"model alone": [], "POST /v1/enhance": []}
        calls: dict[str, Callable[[], object]] = {
            "model alone": lambda: upsampler.enhance(signal, RATE),
            "POST /v1/enhance": lambda: send(at, body, 1, 1),
        }
        for call in calls.values():
            call()
        cpu = [0.0, -at.meter("process_cpu_seconds_total")]
        for _ in range(runs):
            for name, call in calls.items():
                begun, own = time.perf_counter(), time.process_time()
                call()
                times[name].append(time.perf_counter() - begun)
                cpu[0] += (time.process_time() - own) * (name == "model alone")
        cpu[1] += at.meter("process_cpu_seconds_total")
    rows = [
        (1000 * statistics.median(found), 1000 * min(found), 1000 * used / runs)
        for found, used in zip(times.values(), cpu, strict=True)
    ]
    for name, row in zip(times, rows, strict=True):
        table.row(name, *row)
    table.row("difference", *(two - one for one, two in zip(*rows, strict=True)))


def memory(folder: Path, workers: int, clients: int) -> None:
    """Resident memory over a thousand requests of one second."""
    table = measure.Table({"requests": "d", "resident, MiB": ".0f"})
    body, done = clip(1.0), 0
    with server(folder, workers) as at:
        for target in (50, 100, 250, 500, 750, 1000):
            send(at, body, clients, target - done)
            done = target
            table.row(done, at.meter("process_resident_memory_bytes") / 2**20)


def live(folder: Path) -> None:
    """Live streams on one core, as fast as the server takes them."""
    import asyncio

    table = measure.Table({"frames of 20 ms": "<20", "x real time": ".1f", "x by CPU time": ".1f"})
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with server(folder, 1, "--live-ahead", "1000") as at:
            os.sched_setaffinity(0, cores)
            for rate in (48_000, 16_000):
                asyncio.run(_stream(at, rate, 1.0))
                cpu = at.meter("process_cpu_seconds_total")
                taken = asyncio.run(_stream(at, rate, 20.0))
                cpu = at.meter("process_cpu_seconds_total") - cpu
                table.row(f"{rate} Hz", 20.0 / taken, 20.0 / cpu)
    finally:
        os.sched_setaffinity(0, cores)


async def _stream(at: Server, rate: int, seconds: float) -> float:
    import asyncio

    import numpy as np
    from websockets.asyncio.client import connect

    signal = (0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))).astype("<f4")
    frame = rate // 50
    async with connect(f"ws://{at.host}:{at.port}/v1/live", compression=None, max_size=None) as socket:
        await socket.send(json.dumps({"type": "hello", "rate": rate, "cutoff_hz": 8_000}))
        await socket.recv()

        async def receive() -> None:
            async for message in socket:
                if isinstance(message, str) and json.loads(message)["type"] == "error":
                    raise RuntimeError(message)

        begun, receiving = time.perf_counter(), asyncio.create_task(receive())
        for start in range(0, len(signal), frame):
            await socket.send(signal[start : start + frame].tobytes())
        await socket.send('{"type": "end"}')
        await receiving
        return time.perf_counter() - begun


def streams(folder: Path, workers: int, count: int, seconds: float, mode: str) -> None:
    """Several live streams at once, each at the pace of its sound: how late the sound that is known comes back."""
    import asyncio

    async def all_of_them(at: Server) -> list[float]:
        late = await asyncio.gather(*(_paced(at, seconds, mode) for _ in range(count)))
        return sorted(one for stream in late for one in stream)

    with server(folder, workers, "--live-per-client", str(count), "--live-sessions", str(count)) as at:
        cpu = at.meter("process_cpu_seconds_total")
        late = asyncio.run(all_of_them(at))
        cpu = at.meter("process_cpu_seconds_total") - cpu
    gaps = {buffer: sum(one > buffer for one in late) for buffer in (0.02, 0.05, 0.1, 0.2)}
    print(
        f"{count} live streams of {seconds:g} s, {mode}, {len(late)} frames; "
        f"CPU seconds a second of stream {cpu / count / seconds:.3f}"
    )
    percentiles = ", ".join(f"{share:g} % {1000 * late[int(len(late) * share / 100)]:.0f}" for share in (50, 99, 99.9))
    print(f"late by, ms: {percentiles}, most {1000 * late[-1]:.0f}")
    print("gaps with a buffer of " + ", ".join(f"{1000 * buffer:.0f} ms: {found}" for buffer, found in gaps.items()))


async def _paced(at: Server, seconds: float, mode: str) -> list[float]:
    """Seconds by which each message of a stream came after the sound in it was spoken and its latency."""
    import asyncio

    import numpy as np
    from websockets.asyncio.client import connect

    rate, frame = 48_000, 960
    signal = (0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))).astype("<f4")
    late: list[float] = []
    async with connect(f"ws://{at.host}:{at.port}/v1/live", compression=None, max_size=None) as socket:
        await socket.send(json.dumps({"type": "hello", "rate": rate, "cutoff_hz": 8_000, "mode": mode}))
        latency = json.loads(await socket.recv())["latency_ms"] / 1000
        begun = time.perf_counter()

        async def receive() -> None:
            samples = 0
            async for message in socket:
                if isinstance(message, bytes):
                    samples += len(message) // 4
                    if samples < len(signal):
                        spoken = -(-(samples + round(latency * rate)) // frame) * frame / rate
                        late.append(max(0.0, time.perf_counter() - begun - spoken))

        receiving = asyncio.create_task(receive())
        for start in range(0, len(signal), frame):
            await asyncio.sleep(max(0.0, begun + (start + frame) / rate - time.perf_counter()))
            await socket.send(signal[start : start + frame].tobytes())
        await socket.send('{"type": "end"}')
        await receiving
    return late


def slow(folder: Path, workers: int, minutes: float, mbit: float) -> None:
    """A client behind a thin line: does it get all of a long MP3, in the time that the line takes?"""
    import io
    import socket

    from overtone import audio

    body = audio.encode(noise(60 * minutes), RATE, "mp3")
    with server(folder, workers) as at, socket.create_connection((at.host, at.port)) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        head = f"POST /v1/enhance HTTP/1.1\r\nHost: {at.host}:{at.port}\r\nConnection: close\r\n"
        line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        data, begun = line.recv(4_096), time.perf_counter()
        while piece := line.recv(4_096):
            data += piece
            time.sleep(max(0.0, begun + len(data) / (mbit * MBIT) - time.perf_counter()))
    taken = time.perf_counter() - begun
    answer = io.BytesIO(_unchunked(data.partition(b"\r\n\r\n")[2]))
    found = audio.probe(answer)
    whole = found.frames == round(60 * minutes * found.rate)
    print(f"{minutes:g} min MP3 at {mbit:g} Mbit/s: {len(data) / 1e6:.1f} MB in {taken:.0f} s, {found.seconds:.1f} s of sound, "
          f"{'whole' if whole else 'NOT WHOLE'}")  # fmt: skip


def _unchunked(data: bytes) -> bytes:
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        out, data = out + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return out


def batch(folder: Path, workers: int, clips: int) -> None:
    """What whole short requests would gain at most by a batch: of equal clips that are all there, and wait for nothing.

    Only the networks and the frames around them can be computed together: each request has a file of its own to be received,
    read, examined, encoded and sent.
    """
    from overtone import audio

    upsampler = loaded(folder)
    columns = {"clip, s": ".0f", "request, CPU ms": ".1f", "networks, CPU ms": ".1f", f"as a batch of {clips}": ".1f"}
    table = measure.Table({**columns, "gain at most": ".0%"})

    def networks(channels: int, signal: Any) -> float:
        found = []
        for _ in range(25):
            begun = time.process_time()
            stream = upsampler.stream(channels, cutoff_hz=8_000)
            stream.push(signal.repeat(channels, axis=0)), stream.finish()
            found.append(time.process_time() - begun)
        return 1000 * statistics.median(found) / channels

    with server(folder, workers) as at:
        for seconds in (1.0, 2.0):
            body, signal, requests = clip(seconds), audio.resample(noise(seconds), RATE, upsampler.rate), 40 * clips
            send(at, body, clips, clips)
            cpu = at.meter("process_cpu_seconds_total")
            send(at, body, clips, requests)
            served = 1000 * (at.meter("process_cpu_seconds_total") - cpu) / requests
            alone, together = networks(1, signal), networks(clips, signal)
            table.row(seconds, served, alone, together, served / (served - alone + together) - 1)


def main() -> None:
    parser = measure.parser(__doc__)
    measure.add_networks(parser)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--processes", type=int, default=1, help="of the part throughput")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the streams")
    parser.add_argument("--mode", choices=["extend", "restore"], default="extend", help="of the streams")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the MP3 file of the part slow")
    parser.add_argument("--mbit", type=float, default=1.0, help="a second, of the part slow")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--runs", type=int, default=15, help="of the part request")
    parser.set_defaults(models=[Path("models/rnn")])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = measure.network_folders(given.models, given.untrained, given.set, ["onnx"], Path(scratch))
        for name, folder in folders.items():
            print(f"{name}, {given.workers} threads")
            if "throughput" in given.parts:
                throughput(folder, given.workers, given.processes, given.clients, given.requests)
            if "request" in given.parts:
                request(folder, given.runs)
            if "memory" in given.parts:
                memory(folder, given.workers, given.clients)
            if "live" in given.parts:
                live(folder)
            if "streams" in given.parts:
                streams(folder, given.workers, given.streams, given.seconds, given.mode)
            if "slow" in given.parts:
                slow(folder, given.workers, given.minutes, given.mbit)
            if "batch" in given.parts:
                batch(folder, given.workers, 8)


if __name__ == "__main__":
    measure.start(main)
