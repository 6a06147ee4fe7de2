"""Does `overtone serve` keep its promises for minutes at its limit, whatever happens beside it?

    python bench/soak.py                                     # models/rnn: 10 minutes, 12 clients, a swap every 90 s
    python bench/soak.py released/rnn --minutes 2 --swap-seconds 30 --clients 4

Two versions of a model are registered in a project of its own, behind an MLflow server. A server follows their champion.
Clients send it files of several lengths, rates and formats, each the next as soon as the last is answered; one takes its
answers through a thin line, one sends jobs and fetches their results. `overtone promote` moves the champion, and in the
middle of the run the registry hangs for a while. Every answer is opened and its length compared with what was sent.
Status 1 if a request failed, an answer has another length, a promoted version was not served, or memory grew in ten
minutes or more. The run goes on until the champion has changed at least once.

The log folder keeps every request and every look at the memory as CSV files.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import measure
from memory import in_fresh_process
from serving import Server

RATE_OUT = 48_000
# Seconds, rate, channels, format of the files that clients send, one after the other.
FILES = (
    (10.0, 16_000, 1, "wav"),
    (3.0, 44_100, 2, "flac"),
    (1.0, 8_000, 1, "wav"),
    (5.0, 24_000, 1, "ogg"),
    (2.0, 16_000, 2, "mp3"),
    (4.0, 48_000, 1, "opus"),
)
# Of the run's start that does not count when memory is judged: allocators fill, both models have been loaded.
WARM_SHARE = 0.2
# What the last third may hold above the first third; a run that is shorter than ten minutes does not tell.
MOST_GROWTH = 1.05
LEAST_SECONDS = 600.0
LOOK_SECONDS = 5.0
# What the slow client takes in a second: a megabit.
SLOW_BYTES = 125_000
# That the registry says nothing.
HANG_SECONDS = 120.0
# From a promotion until the server serves it: it looks every ten seconds, and loads while it works.
MOST_SWAP_SECONDS = 120.0


class Answer(NamedTuple):
    """One request: when it ended and how long it took in seconds, the file it sent, and what came back."""

    at: float
    seconds: float
    file: int
    version: str
    fault: str


class Look(NamedTuple):
    """The server at one time: seconds since the start, resident MiB, its threads and open files."""

    at: float
    mib: float
    threads: int
    files: int


class Swap(NamedTuple):
    """The champion's move to a version: when the server first served it, and how long that took, in seconds."""

    at: float
    version: str
    seconds: float


# --- the project and its server ---------------------------------------------------------------------------------------


def registered(folder: Path, model: Path) -> None:
    """Register two versions of a model in a new project; to be run in a process of its own."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        del os.environ[name]
    shutil.copyfile("params.yaml", folder / "params.yaml")
    copies = [folder / "models" / str(number) for number in (1, 2)]
    for copy in copies:
        shutil.copytree(model, copy)
    os.environ["DVC_ROOT"] = str(folder)
    os.chdir(folder)

    from overtone import settings
    from overtone.registry import register
    from overtone.registry.scores import Scored

    name = settings.load().register_.name
    gate = settings.RegisterParams(name=name, metric="overall.all.lsd", better="lower")
    for number, copy in enumerate(copies, 1):
        facts = json.loads((copy / "run.json").read_text()) if (copy / "run.json").is_file() else {}
        (copy / "run.json").write_text(json.dumps(facts | {"run_id": str(number) * 32}))
        scored = Scored({"test_set": "soak", "overall": {"all": {"lsd": float(number)}}})
        register.register([register.Candidate(copy, scored)], gate)


def environment(folder: Path) -> dict[str, str]:
    """Of the processes that work in the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "OVERTONE_"))}
    kept |= {"DVC_ROOT": str(folder), "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return kept | {"MLFLOW_TRACKING_URI": (folder / "registry").read_text()}


@contextmanager
def registry(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server of the project's database; the file `registry` holds its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "registry").write_text(f"http://127.0.0.1:{port}")
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    variables = environment(folder) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "registry.log").open("w") as out:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=out, stderr=out, start_new_session=True)
    try:
        while process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.5)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def serving(folder: Path, workers: int) -> Iterator[Server]:
    """`overtone serve` in the project's folder, with every limit as it is by default; its log is `serve.log` there."""
    log = folder / "serve.log"
    command = [sys.executable, "-m", "overtone", "serve", "--port", "0", "--workers", str(workers), "--no-access-log"]
    command += ["--state", str(folder / "state"), "--job-minutes", "1"]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment(folder), stderr=out, text=True)
    try:
        while not (ready := re.search(r"listening on (http://[\w.:]+)[\s\S]*serving \w+", log.read_text())):
            if process.poll() is not None:
                raise RuntimeError(f"the server did not come up:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield Server(process, ready[1])
    finally:
        process.terminate()
        process.wait(timeout=120)


# --- what happens to it -----------------------------------------------------------------------------------------------


class Soak:
    """A server under load, and what is written down of it.

    Args:
        at: the server.
        folder: its project.
        log: folder of `requests.csv`, `memory.csv` and `swaps.csv`.
    """

    def __init__(self, at: Server, folder: Path, log: Path, stack: ExitStack) -> None:
        self.at, self.folder = at, folder
        self.begun = time.monotonic()
        self.over = threading.Event()
        self.swapped = self.hanging = False
        self._writing = threading.Lock()
        self._tables: dict[type, Any] = {}
        self._bodies = [body(*facts) for facts in FILES]
        log.mkdir(parents=True, exist_ok=True)
        for kind, name in ((Answer, "requests"), (Look, "memory"), (Swap, "swaps")):
            file = stack.enter_context((log / f"{name}.csv").open("w", newline="", buffering=1))
            self._tables[kind] = csv.writer(file)
            self._tables[kind].writerow(kind._fields)

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    def keep(self, row: Answer | Look | Swap) -> None:
        """Write a row down at once: a soak that is broken off can still be drawn."""
        with self._writing:
            self._tables[type(row)].writerow([f"{value:.3f}" if isinstance(value, float) else value for value in row])

    def client(self, index: int) -> None:
        """One client: its next file as soon as the last is answered."""
        connection, number = self.at.connect(), index
        while not self.over.is_set():
            file, begun = number % len(FILES), time.monotonic()
            version, fault = "", ""
            try:
                connection.request("POST", "/v1/enhance", self._bodies[file])
                answer = connection.getresponse()
                data = answer.read()
                version = answer.headers.get("X-Overtone-Version", "")
                fault = wrong(file, answer.status, data)
            except Exception as error:  # whatever it is, it is a failed request
                fault = f"{type(error).__name__}: {error}"
                connection.close()
            self.keep(Answer(self.now, time.monotonic() - begun, file, version, fault))
            number += 1

    def slow_client(self) -> None:
        """A client that takes its answers at a megabit a second, by small pieces."""
        while not self.over.is_set():
            begun, fault, version, data = time.monotonic(), "", "", b""
            connection = self.at.connect()
            try:
                connection.request("POST", "/v1/enhance", self._bodies[0])
                answer = connection.getresponse()
                version = answer.headers.get("X-Overtone-Version", "")
                while piece := answer.read(8_192):
                    data += piece
                    time.sleep(len(piece) / SLOW_BYTES)
                fault = wrong(0, answer.status, data)
            except Exception as error:  # whatever it is, it is a failed request
                fault = f"{type(error).__name__}: {error}"
            connection.close()
            self.keep(Answer(self.now, time.monotonic() - begun, 0, version, f"slow: {fault}" if fault else ""))

    def job_client(self) -> None:
        """A client of jobs: the file once, its result in two formats."""
        while not self.over.is_set():
            begun, fault, version = time.monotonic(), "", ""
            connection = self.at.connect()

            def ask(method: str, path: str, body: bytes | None = None, to: Any = connection) -> bytes:
                to.request(method, f"/v1/jobs{path}", body)
                answer = to.getresponse()
                data: bytes = answer.read()
                if answer.status >= 400:
                    raise RuntimeError(f"{answer.status}: {data[:200]!r}")
                return data

            try:
                job = json.loads(ask("POST", "", self._bodies[1]))
                while job["state"] not in ("done", "failed"):
                    time.sleep(0.5)
                    job = json.loads(ask("GET", f"/{job['id']}"))
                version = job["version"] or ""
                faults = [wrong(1, 200, ask("GET", f"/{job['id']}/result?format={name}")) for name in ("wav", "flac")]
                fault = job["detail"] or next(filter(None, faults), "")
                ask("DELETE", f"/{job['id']}")
            except Exception as error:  # whatever it is, it is a failed request
                fault = f"{type(error).__name__}: {error}"
            connection.close()
            self.keep(Answer(self.now, time.monotonic() - begun, 1, version, f"job: {fault}" if fault else ""))

    def hang(self, registry: subprocess.Popen[bytes], seconds: float) -> None:
        """The registry takes connections and says nothing, in the middle third of the run."""
        if self.over.wait(seconds / 3):
            return
        os.killpg(registry.pid, signal.SIGSTOP)
        self.hanging = True
        print(f"at {self.now:.0f} s the registry hangs", flush=True)
        self.over.wait(min(seconds / 3, HANG_SECONDS))
        os.killpg(registry.pid, signal.SIGCONT)
        self.hanging = False
        print(f"at {self.now:.0f} s it is back", flush=True)

    def look(self) -> None:
        """Look at the server's process every few seconds."""
        process = Path("/proc", str(self.at.process.pid))
        while not self.over.wait(LOOK_SECONDS):
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
            kib, threads = int(status["VmRSS"].split()[0]), int(status["Threads"])
            self.keep(Look(self.now, kib / 1024, threads, sum(1 for _ in (process / "fd").iterdir())))

    def swap(self, seconds: float) -> None:
        """Move the champion between the two versions, as a person does it."""
        version = "1"
        while not self.over.wait(seconds):
            if self.hanging:
                continue
            version = "2" if version == "1" else "1"
            command = [sys.executable, "-m", "overtone", "promote", version]
            subprocess.run(command, cwd=self.folder, env=environment(self.folder), check=True, capture_output=True)
            promoted = self.now
            while version != self.served():
                if self.hanging:
                    promoted = self.now
                if self.now > promoted + MOST_SWAP_SECONDS:
                    raise RuntimeError(f"version {version} is not served {MOST_SWAP_SECONDS:g} s after its promotion")
                if self.over.wait(1.0):
                    return
            self.keep(Swap(self.now, version, self.now - promoted))
            self.swapped = True

    def served(self) -> str:
        """The version of requests that name none, by the server's own meters."""
        connection = self.at.connect()
        connection.request("GET", "/metrics")
        found = re.search(
            r'^overtone_model_info\{.*version="(\w+)"\} 1.0', connection.getresponse().read().decode(), re.MULTILINE
        )
        return found[1] if found else ""

    def run(self, registry: subprocess.Popen[bytes], minutes: float, clients: int, swap_seconds: float) -> None:
        """All of it at once, until the time is over and there was a swap; a line a minute tells how it goes."""
        with ThreadPoolExecutor(clients + 5) as pool:
            tasks = [pool.submit(self.client, index) for index in range(clients)]
            tasks += [pool.submit(self.look), pool.submit(self.swap, swap_seconds)]
            tasks += [pool.submit(self.slow_client), pool.submit(self.job_client)]
            beside = pool.submit(self.hang, registry, 60 * minutes)
            try:
                while (self.now < 60 * minutes or not self.swapped) and not any(task.done() for task in tasks):
                    time.sleep(1.0)
                    if self.now // 60 > (self.now - 1.0) // 60:
                        print(f"{self.now / 60:.0f} min, load average {os.getloadavg()[0]:.1f}", flush=True)
            finally:
                self.over.set()
            for task in [*tasks, beside]:
                task.result()


def body(seconds: float, rate: int, channels: int, format: str) -> bytes:
    """A file of noise."""
    import numpy as np

    from overtone import audio

    noise = 0.1 * np.random.default_rng(0).standard_normal((channels, round(seconds * rate)))
    return audio.encode(noise.astype(np.float32), rate, format)


def wrong(file: int, status: int, data: bytes) -> str:
    """What is wrong with an answer; empty if nothing is."""
    from overtone import audio

    if status != 200:
        return f"{status}: {data[:200]!r}"
    try:
        found = audio.probe(io.BytesIO(data))
    except audio.AudioError as error:
        return str(error)
    seconds, _, channels, format = FILES[file]
    expected = (RATE_OUT, channels, round(seconds * RATE_OUT))
    if (found.rate, found.channels, found.frames) != expected:
        return f"{format} of (rate, channels, frames) {(found.rate, found.channels, found.frames)}; expected {expected}"
    return ""


# --- what came of it --------------------------------------------------------------------------------------------------


def read(log: Path, kind: type[Any], name: str) -> list[Any]:
    """The rows of a table of the log."""
    with (log / f"{name}.csv").open(newline="") as file:
        casts = list(get_type_hints(kind).values())
        return [
            kind(*(cast(text) for cast, text in zip(casts, row, strict=True))) for row in list(csv.reader(file))[1:]
        ]


def judge(log: Path) -> bool:
    """Print what the log says; whether every promise was kept."""
    answers, looks, swaps = read(log, Answer, "requests"), read(log, Look, "memory"), read(log, Swap, "swaps")
    failed = [answer for answer in answers if answer.fault]
    times = sorted(answer.seconds for answer in answers)
    end = max(answer.at for answer in answers)
    print(f"{len(answers)} requests in {end / 60:.1f} minutes, {len(failed)} failed; {len(swaps)} swaps")
    for answer in failed[:10]:
        print(f"  at {answer.at:.1f} s, {FILES[answer.file]}: {answer.fault}")
    print("latency, s: " + ", ".join(f"p{share} {percentile(times, share):.2f}" for share in (50, 95, 99, 100)))
    served = {answer.version for answer in answers} >= {swap.version for swap in swaps}
    longest = max((swap.seconds for swap in swaps), default=0.0)
    print(f"each promoted version was served, after {longest:.0f} s at most" if served else "a version was NOT served")
    counted = [look for look in looks if look.at > WARM_SHARE * looks[-1].at]
    third = max(len(counted) // 3, 1)
    first, last = (statistics.median(look.mib for look in part) for part in (counted[:third], counted[-third:]))
    print(
        f"resident, MiB: first third {first:.0f}, last third {last:.0f}, ratio {last / first:.3f}, most {peak(looks):.0f}"
    )
    print(
        f"threads {looks[third].threads} -> {looks[-1].threads}, open files at most {max(look.files for look in looks)}"
    )
    flat = end < LEAST_SECONDS or last <= MOST_GROWTH * first
    return not failed and served and flat


def peak(looks: Sequence[Look]) -> float:
    """The most resident MiB."""
    return max(look.mib for look in looks)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this percentage of sorted ones do not exceed."""
    return ordered[max(0, -(-len(ordered) * int(share) // 100) - 1)]


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=Path("models/rnn"), help="model folder")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="threads of the server")
    parser.add_argument("--swap-seconds", type=float, default=90.0)
    parser.add_argument("--log", type=Path, help="folder to keep the tables in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        log = given.log or Path(scratch, "log")
        folder = Path(scratch, "project")
        folder.mkdir()
        in_fresh_process(registered, folder, given.model)
        store = stack.enter_context(registry(folder))
        at = stack.enter_context(serving(folder, given.workers))
        print(f"{given.model} at {at.address}: {given.workers} threads, {given.clients} clients", flush=True)
        Soak(at, folder, log, stack).run(store, given.minutes, given.clients, given.swap_seconds)
        if "Traceback" in (folder / "serve.log").read_text():
            print((folder / "serve.log").read_text()[-3000:])
        kept = judge(log)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    measure.start(main)
