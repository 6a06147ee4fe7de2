"""Laws of the documentation: its pages build without a warning, are whole without a network, and their commands work."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import documents
from conftest import ROOT

PAGES = {one.name: one for one in map(documents.page, documents.PAGES)}
# What a recording of the user's is called on the pages: name -> Hz.
OWN_FILES = {
    "old.wav": 8_000,
    "old.mp3": 16_000,
    "old.flac": 16_000,
    "call.wav": 8_000,
    "recordings/one.wav": 16_000,
    "recordings/more/two.mp3": 22_050,
    "interviews/three.wav": 16_000,
    "note.wav": 8_000,
    "a.wav": 16_000,
    "b.mp3": 22_050,
    "original.wav": 48_000,
}
# A namespace of its own: no network but this machine's own address, ports that nobody else holds, and an end for all
# processes that the commands left behind.
ALONE = (
    *("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("bash", "-c", 'ip link set lo up && exec "$@"', "bash"),
)
# pip looks whether it could install what a page names, and installs nothing. Builds are not isolated if the variable
# that names this is false: pip reads it as the value of the option, which is "isolated".
DRY = {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
PERSON = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_CONFIG_GLOBAL": os.devnull}
PERSON |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in PERSON.items()}


# --- what the pages hold ------------------------------------------------------------------------------------------------


def test_every_page_is_in_the_menu() -> None:
    pytest.importorskip("sphinx", reason="no sphinx: pip install -e '.[docs]'")
    conf = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    start = ROOT / "docs" / "index.md"
    listed = [(start.parent / target).resolve() for target in conf["links"](start.read_text())]
    assert len(listed) == len(set(listed)), "listed twice"
    pages = {*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in conf["BESIDE"])}
    assert set(listed) == pages - {start}


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_code_says_what_it_is(name: str) -> None:
    known = {"sh", "python", "yaml", "json", "ini", "nginx", "text"}
    assert [(line, label) for line, label in documents.labels(ROOT / name) if label not in known] == []


@pytest.mark.parametrize("name", PAGES)
def test_what_is_not_run_has_a_reason(name: str) -> None:
    for block in PAGES[name].blocks:
        block.run()
        for command, reason in block.skipped():
            assert len(reason.split()) >= 3, command
            assert all((ROOT / test).exists() for test in re.findall(r"tests/\w+\.py", reason)), reason


def test_a_mark_that_fits_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in the block"):
        documents.Block(1, "overtone models", (documents.Mark("value", "--trials 20", "--trials 1"),)).run()
    with pytest.raises(ValueError, match="environment of the tests"):
        documents.Block(1, "python3 -m venv .venv").run()


def scores(page: str) -> dict[tuple[str, str], dict[str, str]]:
    """A page's table of figures: (figure, kind) -> the mean of each system, without its interval."""
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("|")
    ]
    means = [[cell.partition(" ±")[0] for cell in row] for row in rows]
    return {(row[0], row[2]): dict(zip(head[3:], row[3:], strict=True)) for row in means}


def test_figures_of_the_overview_are_those_of_all_scores() -> None:
    shown, complete = scores("README.md"), scores("released/scores.md")
    assert len(shown) >= 5
    for row, means in shown.items():
        assert means.items() <= complete[row].items(), row


# --- the pages as HTML --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built as `make docs` builds it."""
    pytest.importorskip("sphinx", reason="no sphinx: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("built")
    options = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "sphinx-build" in line).split()[1:]
    places = {"build/doctrees": str(folder / "doctrees"), "build/docs": str(folder / "html")}
    command = [sys.executable, "-m", "sphinx", *(places.get(word, word) for word in options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"--fail-on-warning", str(folder / "html")} <= set(command)
    return folder / "html"


def test_pages_load_nothing_from_elsewhere(built: Path) -> None:
    for path in [*built.rglob("*.html"), *built.rglob("*.css")]:
        text = path.read_text()
        assert not re.findall(r"<(?:script|img|iframe|source)[^>]+src=\"(?:https?:)?//[^\"]*", text), path
        assert not re.findall(r"<link[^>]+href=\"(?:https?:)?//[^\"]*", text), path
        assert not re.findall(r"(?:@import|url\()[\s'\"]*(?:https?:)?//[^\s)]*", text), path


@pytest.mark.slow
def test_menu_and_search_work_in_a_browser_without_a_network(built: Path, browser: Any) -> None:
    context = browser.new_context(offline=True)
    shown, asked, wrong = context.new_page(), [], []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.goto((built / "index.html").as_uri())
    shown.wait_for_url("**/docs/index.html")
    shown.click(".sidebar-tree >> text=Quick start")
    shown.wait_for_selector("h1:has-text('Quick start')")
    shown.fill(".sidebar-search", "champion")
    shown.press(".sidebar-search", "Enter")
    # Results come one after the other.
    shown.wait_for_selector("#search-results li:nth-child(4) a")
    context.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


# --- the commands -------------------------------------------------------------------------------------------------------


@cache
def alone() -> tuple[str, ...]:
    """What puts a command into a namespace of its own; nothing where this machine does not let one."""
    able = shutil.which("unshare") and shutil.which("ip")
    return ALONE if able and not subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode else ()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the tests share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "documents"
    folder.mkdir(exist_ok=True)
    return folder


def make_clone(folder: Path, environment: dict[str, str]) -> None:
    """The project as git clones it, with settings that make its networks tiny and judge them on two conditions."""
    from test_pipeline import TINY, copy_project, edit

    copy_project(folder)
    for name in ("data.dvc", "dvc.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    complete(folder)
    kept = {key: value for key, value in TINY.items() if not key.startswith("corpus.")}
    edit(folder / "params.yaml", kept | {"evaluate.figures": 1})
    few(folder / "params.yaml")
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "Clone"]):
        subprocess.run(command, cwd=folder, env=environment | PERSON, check=True, capture_output=True)
        # Git takes long over the recordings in it, and no page asks it for them.
        (folder / ".git" / "info" / "exclude").write_text("/dvcstore\n")


def make_trained(folder: Path, empty_store: Path, environment: dict[str, str]) -> None:
    """The tiny line of `test_pipeline`, run once, with a second version in its registry and a search of a few steps."""
    from test_pipeline import edit, make_pipeline

    line = make_pipeline(folder, empty_store, environment | PERSON)
    line.run("overtone", "stage", "register", "--set", "register.better=higher")
    line.run("overtone", "promote", "2")
    line.run("overtone", "promote", "1")
    space = {"train.extend.learning_rate": {"type": "float", "low": 0.0001, "high": 0.1}}
    edit(folder / "params.yaml", {"tune.steps": 4, "tune.epoch_steps": 2, "tune.space.rnn": space})
    complete(folder)
    line.run("dvc", "pull", "-q", "released/cnn.dvc", "released/rnn.dvc")
    line.run("git", "add", "dvc.lock", "params.yaml", "released")
    line.run("git", "commit", "-qm", "A small search")


def few(path: Path) -> None:
    """Leave two conditions in a file of settings."""
    from ruamel.yaml import YAML

    keeper = YAML()
    keeper.width = 4096
    tree = keeper.load(path)
    kept = ("sinc_8k", "mp3_mono_32k", "mixture")
    for name in [name for name in tree["degrade"]["conditions"] if name not in kept]:
        del tree["degrade"]["conditions"][name]
    with path.open("w") as file:
        keeper.dump(tree, file)


def complete(folder: Path) -> None:
    """What a clone holds beside the code, an environment in its place, and recordings of the user's."""
    import numpy as np

    from overtone import audio
    from test_pipeline import voice

    shutil.copytree(ROOT / "released", folder / "released", ignore=shutil.ignore_patterns("cnn", "rnn"))
    shutil.copytree(ROOT / "dvcstore", folder / "dvcstore")
    shutil.copytree(ROOT / "bench", folder / "bench")
    (folder / ".venv").symlink_to(sys.prefix)
    for seed, (name, rate) in enumerate(OWN_FILES.items()):
        audio.write(folder / name, np.asarray(voice(seed, 2.0, rate)), rate)


def moved(original: Path, folder: Path) -> None:
    """A copy of a project; its MLflow store names its files where they are now."""

    def copy(source: str, target: str) -> str:
        # Files of stores are never changed, only added and removed.
        unchanging = "/dvcstore/" in source or "/.dvc/cache/" in source
        return str((os.link if unchanging else shutil.copy2)(source, target) or target)

    shutil.copytree(original, folder, symlinks=True, copy_function=copy)
    if not (folder / "mlflow.db").exists():
        return
    with sqlite3.connect(folder / "mlflow.db") as store:
        for (table,) in store.execute("select name from sqlite_master where type = 'table'").fetchall():
            for _, column, kind, *_ in store.execute(f'pragma table_info("{table}")').fetchall():
                if kind.upper().startswith(("VARCHAR", "TEXT")):
                    store.execute(
                        f'update "{table}" set "{column}" = replace("{column}", ?, ?) where instr("{column}", ?)',
                        (str(original), str(folder), str(original)),
                    )
    store.close()


@pytest.fixture
def place(
    shared: Path, tmp_path: Path, request: pytest.FixtureRequest, empty_store: Path, environment: dict[str, str]
) -> Iterator[Path]:
    """A project of a page's own to read it in, gone afterwards: a copy of one that is made once."""
    from filelock import FileLock

    original = shared / request.param
    with FileLock(f"{original}.lock"):
        if not (ready := shared / f"{request.param}.ready").exists():
            shutil.rmtree(original, ignore_errors=True)
            if request.param == "clone":
                make_clone(original, environment)
            else:
                make_trained(original, empty_store, environment)
            ready.touch()
    folder = tmp_path / "overtone"
    moved(original, folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place"),
    [pytest.param(name, one.place, id=name) for name, one in PAGES.items() if any(b.run() for b in one.blocks)],
    indirect=["place"],
)
def test_commands_of_a_page_work_as_they_stand(name: str, place: Path, environment: dict[str, str]) -> None:
    own = {"PYTHONPATH": str(place / "src"), "DVC_SITE_CACHE_DIR": str(place / ".dvc" / "tmp" / "site")}
    own |= {"BROWSER": "true", "TERM": "dumb", "COLUMNS": "120"}
    script = place.parent / "page.sh"
    script.write_text(PAGES[name].script())
    with (place.parent / "log").open("w+") as log:
        process = subprocess.Popen(
            [*alone(), "bash", str(script)],
            cwd=place,
            env=environment | own | DRY | PERSON,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout=1_200)
        finally:
            end(process)
        log.seek(0)
        said = log.read()
    assert status == 0, said[said.rfind("@@") :][:500] + "\n...\n" + said[-4000:]


def end(process: subprocess.Popen[Any]) -> None:
    """End what is left of a page's commands: servers in the background."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
