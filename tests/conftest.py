"""Fixtures that several packages' tests share: settings, a project of its own with a fresh MLflow store, tiny model folders."""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as search

from overtone import settings

# Before torch is imported: tiny networks are slower on many threads, and the rest of the machine is left alone.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# As the command itself does it: torch, Lightning and MLflow are imported a third faster.
gc.set_threshold(10_000, 20, 100)

ROOT = Path(__file__).parents[1]
TINY = (
    *(f"train.rnn.{task}={{cell: gru, width: 16, layers: 1, dropout: 0.0}}" for task in ("extend", "restore")),
    *(
        f"train.cnn.{task}={{width: 16, blocks: 2, kernel: 3, context: 8, pooling: average, dropout: 0.0}}"
        for task in ("extend", "restore")
    ),
)
INHERITED = (
    *("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"),
    *("OVERTONE_PARENT_RUN_ID", "OVERTONE_TUNE_STORAGE"),
    *("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"),
)

# Of the tests of properties: the same few examples every time, or by HYPOTHESIS_PROFILE=long many new ones.
_CHECKS = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
search.register_profile(
    "short", derandomize=True, database=None, max_examples=20, deadline=None, suppress_health_check=_CHECKS
)
search.register_profile("long", max_examples=2_000, deadline=None, suppress_health_check=_CHECKS, print_blob=True)
search.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

# Files whose tests share what takes seconds to make.
SHARING = (
    *("test_services", "test_page", "test_cluster", "test_docs", "test_graphs", "test_failure", "test_overview"),
    *("test_packaging", "test_pairs", "test_released", "test_report", "test_shards", "test_training"),
)
# Marks of tests that run only where they are asked for.
LONG = ("faults", "long")

# (folder name, run id, seed of the weights) -> model folder
ModelMaker = Callable[..., Path]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: starts servers or trains; deselect with `-m 'not slow'`")
    config.addinivalue_line("markers", "services: starts a team's servers, PostgreSQL and an object store among them")
    config.addinivalue_line("markers", "faults: of the long form of the fault suite (`make faults`)")
    config.addinivalue_line("markers", "long: takes minutes, and is run by `make long`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long runs where its mark is asked for by name."""
    asked = config.getoption("markexpr")
    long = [item for item in items if any(item.get_closest_marker(name) and name not in asked for name in LONG)]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Faults tried, survived, and data lost, of all tests that tried any."""
    tests = [test for kind in ("passed", "failed") for test in terminalreporter.stats.get(kind, [])]
    rows = [value for test in tests for name, value in test.user_properties if name == "fault" and test.when == "call"]
    if not rows:
        return
    totals: dict[str, list[int]] = {}
    for name, counts in rows:
        row = totals.setdefault(name, [0, 0, 0])
        for place, key in enumerate(("tried", "survived", "lost")):
            row[place] += counts[key]
    totals["all"] = [sum(row[place] for row in totals.values()) for place in range(3)]
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'':44}{'tried':>8}{'survived':>10}{'data lost':>11}")
    for name, (tried, survived, lost) in totals.items():
        terminalreporter.write_line(f"{name:44}{tried:>8}{survived:>10}{lost:>11}")


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Any:
    """Begins a test's account of faults of a kind, for the table at the end."""
    from faults.harness import Ledger

    return lambda name: Ledger(request.node.user_properties, name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of the pipeline share a run of minutes, those of other files servers or trainings: one process gets all of them.

    pytest-xdist's own `--dist loadgroup` would do, but 3.8.0 cannot group under pytest 9.2.
    """

    scoped: Any = importlib.import_module("xdist.scheduler").LoadScopeScheduling

    class Scheduler(scoped):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            name = Path(nodeid.partition("::")[0]).stem
            return "test_pipeline" if name.startswith("test_pipeline") else name if name in SHARING else nodeid

        def remove_node(self, node: Any) -> str | None:
            """Give the tests of a process that crashed to others, but for those that ran and the one that it crashed in.

            The library's own method gives them all: a process that is sent nothing but finished tests waits for ever.
            """
            units = self.assigned_work[node]
            left = [test for unit in units.values() for test, finished in unit.items() if not finished]
            if left:
                units[self._split_scope(left[0])][left[0]] = True
            self.assigned_work[node] = {scope: unit for scope, unit in units.items() if not all(unit.values())}
            super().remove_node(node)
            return left[0] if left else None

    return Scheduler(config, log)


@pytest.fixture(scope="session")
def params() -> settings.Params:
    """The project's own settings with tiny networks."""
    return settings.load(ROOT / "params.yaml", TINY)


@pytest.fixture(scope="session")
def pairs_folder(params: settings.Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made paired set: three voices, three pieces in stereo and three noises of a second and a half each, all seeded."""
    import numpy as np
    import scipy.signal

    from overtone import audio
    from overtone.data import corpus, pairs

    folder, rate = tmp_path_factory.mktemp("pairs"), 48_000
    time = np.arange(3 * rate // 2) / rate
    for index in range(3):
        rng = np.random.default_rng(index)
        breath = rng.standard_normal((1, len(time)))
        harmonics = sum(np.sin(2 * np.pi * k * 140 * (1 + index / 5) * time) / k for k in range(1, 40))
        syllables = np.clip(np.sin(2 * np.pi * (3 + index) * time), 0.01, None)
        hits = np.exp(-9 * (time % (0.3 + 0.1 * index))) * rng.standard_normal((2, len(time)))
        signals = {"speech": syllables * (0.3 * harmonics + 0.3 * breath), "music": hits, "noise": breath}
        for kind, signal in signals.items():
            # Falling with frequency, as sound does: a network has something to learn about levels.
            signal = scipy.signal.lfilter([1.0], [1.0, -0.8], signal)
            level = np.float32(0.5 / np.abs(signal).max())
            audio.write(folder / "data" / kind / f"{kind}{index}.flac", level * signal.astype(np.float32), rate)
    changes = {"path": folder / "data", "valid_share": 0.3, "test_share": 0.3, "assign": settings.Assign()}
    corpus.build(params.corpus.model_copy(update=changes), 1, folder / "corpus", workers=1)
    conditions = {name: params.degrade.conditions[name] for name in ("sinc_8k", "noise_10db")}
    few = {"conditions": conditions}
    pairs.build(params.degrade.model_copy(update=few), 1, folder / "corpus", folder / "pairs", workers=1)
    return folder / "pairs"


@pytest.fixture(scope="session")
def corpus_folder(pairs_folder: Path) -> Path:
    """The made corpus that the pairs were made of."""
    return pairs_folder.parent / "corpus"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and no runs: creating them takes seconds, copying them nothing."""
    from overtone.tracking import store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        store.client()
    return path


def work_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a folder the working directory, with nothing inherited from whoever runs the tests."""
    for name in INHERITED:
        # Set first: MLflow sets some of these itself, and only what was set before is undone afterwards.
        patch.setenv(name, "")
        patch.delenv(name)
    patch.chdir(folder)


@pytest.fixture
def bare_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is a project's root and the working directory, with no store yet and nothing inherited."""
    work_in(tmp_path, monkeypatch)
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    return tmp_path


@pytest.fixture(scope="module")
def served_model(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The folder of a tiny model; the module's tests work where there is no project."""
    with pytest.MonkeyPatch.context() as patch:
        work_in(tmp_path_factory.mktemp("serving"), patch)
        yield str(tiny_model("rnn"))


@pytest.fixture
def project(bare_project: Path, empty_store: Path) -> Path:
    """As `bare_project`, with an empty MLflow store."""
    shutil.copyfile(empty_store, bare_project / "mlflow.db")
    return bare_project


@pytest.fixture
def make_model(bare_project: Path, params: settings.Params) -> ModelMaker:
    """Writes a model folder of untrained tiny weights, as a training leaves it."""

    def make(name: str = "rnn", run_id: str = "0" * 32, seed: int = 0, **info: Any) -> Path:
        import torch

        from overtone.models.model import Model

        torch.manual_seed(seed)
        folder = bare_project / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        Model.untrained("rnn", params.train.rnn, params.corpus.rate).save(folder)
        facts = {
            "run_id": run_id,
            "experiment": "overtone",
            "commit": "c0ffee",
            "data_digest": "d1ce.dir",
            "model": "rnn",
        }
        (folder / "run.json").write_text(json.dumps(facts | info))
        (folder / "history.csv").write_text("task,epoch,step,extend_valid_lsd\nextend,0,50,1.5\nextend,1,100,1.25\n")
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(params: settings.Params, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an untrained tiny model of a family, made once; not to be changed."""

    @functools.cache
    def folder(family: str) -> Path:
        import torch

        from overtone.models.model import Model

        path = tmp_path_factory.mktemp("tiny") / family
        path.mkdir()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            Model.untrained(family, params.train.bodies(family), params.corpus.rate).save(path)
        return path

    return folder


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, environment: dict[str, str]) -> Any:
    """The project as `test_pipeline` makes it, run once: a `test_pipeline.Pipeline`."""
    from test_pipeline import make_pipeline

    return make_pipeline(tmp_path_factory.mktemp("pipeline"), empty_store, environment)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For processes that a test starts: this interpreter's commands first, one compute thread, nothing inherited."""
    import sys

    kept = {name: value for name, value in os.environ.items() if name not in INHERITED}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of this machine (a playwright Browser); skips where there is none.

    Of a module alone: while playwright is open, no other test may run an event loop of its own.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        # A microphone that beeps, and that may be used.
        options += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        opened = driver.chromium.launch(executable_path=found, args=options)
        yield opened
        opened.close()
