"""Laws of the command line: help is complete, errors are one message, files are made whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, ModelMaker
from overtone import audio, cli
from overtone.cli.app import GROUPS
from overtone.errors import OvertoneError
from overtone.models.session import Graphs
from overtone.registry import resolve

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def overtone(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process, as its console script does; status, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["overtone", *map(str, arguments)])
        capfd.readouterr()
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        else:
            status = 0
        output, errors = capfd.readouterr()
        return status, output, errors

    return run


def sound(path: Path, rate: int, channels: int, seconds: float = 0.5) -> Path:
    generator = np.random.default_rng(3)
    signal = 0.1 * generator.standard_normal((channels, round(seconds * rate)))
    audio.write(path, signal.astype(np.float32), rate)
    return path


# --- help ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--help",), ("-h",)])
def test_help_is_what_no_command_gives(overtone: Command, flags: tuple[str, ...]) -> None:
    assert "Usage: overtone" in "".join(overtone(*flags)[1:])


def test_each_command_has_help(overtone: Command) -> None:
    names = [(name,) for group in GROUPS.values() for name in group]
    for command in (
        *names,
        *(("stage", name) for name in ("corpus", "degrade", "train", "evaluate", "report", "register")),
    ):
        status, output, _ = overtone(*command, "--help")
        assert status == 0 and "Usage" in output, command


def test_help_shows_what_users_look_for_first_and_every_command_in_a_group(overtone: Command) -> None:
    _, output, _ = overtone("--help")
    names = ["enhance", "inspect", "compare", "serve", "models", "stage", "tune", "promote", "verify"]
    places = [output.index(f"│ {name} ") for name in names]
    assert places == sorted(places)
    grouped = {name for group in GROUPS.values() for name in group}
    assert grouped == {command.name or command.callback.__name__ for command in cli.app.registered_commands} | {  # type: ignore[union-attr]
        group.name for group in cli.app.registered_groups
    }


# --- surroundings -------------------------------------------------------------------------------------------------------


def test_env_file_of_the_project_fills_in_what_is_not_set(
    overtone: Command, bare_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    for name in ("MLFLOW_EXPERIMENT_NAME", "OVERTONE_OF_A_TEST", "AWS_OF_A_TEST", "OF_A_TEST"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    lines = (
        "MLFLOW_TRACKING_USERNAME=ben",
        "export MLFLOW_EXPERIMENT_NAME='mine # too'",
        "OVERTONE_OF_A_TEST=1",
        "OF_A_TEST=1",
    )
    (bare_project / ".env").write_text("# a comment\n" + "\n".join(lines) + "\nAWS_OF_A_TEST=2\n")
    overtone("stage", "corpus")
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "ada"
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "mine # too"
    assert (os.environ["OVERTONE_OF_A_TEST"], os.environ["AWS_OF_A_TEST"]) == ("1", "2")
    assert "OF_A_TEST" not in os.environ, "only what the project and its stores look at"


def test_copy_of_an_experiment_runs_its_own_code(bare_project: Path, environment: dict[str, str]) -> None:
    copy = bare_project / ".dvc" / "tmp" / "exps" / "tmp0"
    (copy / ".dvc").mkdir(parents=True)
    shutil.copytree(ROOT / "src" / "overtone", copy / "src" / "overtone", ignore=shutil.ignore_patterns("__pycache__"))
    stages = copy / "src" / "overtone" / "stages.py"
    stages.write_text(stages.read_text() + "\n\ndef corpus(params: object) -> None:\n    print('as it was queued')\n")
    shutil.copyfile(ROOT / "params.yaml", copy / "params.yaml")
    own = {"DVC_ROOT": str(bare_project), "DVC_EXP_NAME": "brave-owl"}
    command = [sys.executable, "-m", "overtone", "stage"]
    for stage, said in (("corpus", "as it was queued\n"), ("register", "experiment brave-owl: not registered")):
        done = subprocess.run(
            [*command, stage], cwd=copy, env=environment | own, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(said), done.stderr
    assert not (bare_project / "mlflow.db").exists(), "an experiment in a copy does not even open the registry"


# --- errors -------------------------------------------------------------------------------------------------------------


def test_error_is_one_message_and_status_1(overtone: Command, bare_project: Path) -> None:
    status, output, errors = overtone("stage", "corpus")
    assert (status, output) == (1, "")
    assert errors == "overtone: data: no such folder; corpus.path expects a folder of audio files\n"


@pytest.mark.parametrize(
    "arguments", [("enhance",), ("stage", "train"), ("stage", "train", "--model", "gan"), ("sing",)]
)
def test_wrong_usage_is_status_2(overtone: Command, arguments: tuple[str, ...]) -> None:
    status, _, errors = overtone(*arguments)
    assert status == 2
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        (("corpus",), "data: no such folder"),
        (("degrade",), "work/corpus/manifest.csv: no such file"),
        (("train", "--model", "rnn"), "work/corpus/manifest.csv: no such file"),
        (("evaluate", "--system", "rnn"), "work/pairs/manifest.csv: no such file"),
        (("register",), "reports/cnn/metrics.json: no such file"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_stage_without_its_input_names_it(
    overtone: Command, project: Path, stage: tuple[str, ...], missing: str
) -> None:
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    status, _, errors = overtone("stage", *stage)
    assert status == 1
    assert missing in errors
    assert len(errors.strip().splitlines()) == 1, errors


def test_every_error_of_the_packages_reaches_the_user_as_a_message() -> None:
    """Errors that users can mend have one base, which the command line shows without a stack trace."""
    import importlib
    import pkgutil

    import overtone

    found = []
    for module in pkgutil.walk_packages(overtone.__path__, "overtone."):
        if module.name == "overtone.registry.pyfunc":
            continue
        values = vars(importlib.import_module(module.name)).values()
        ours = [value for value in values if isinstance(value, type) and value.__module__.startswith("overtone")]
        found += [value for value in ours if issubclass(value, Exception) and value.__name__.endswith("Error")]
    assert len(set(found)) >= 6
    assert all(issubclass(error, OvertoneError) for error in found)


# --- enhance ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rate", "channels", "target"),
    [("old.wav", 8_000, 1, "deep/er/new.flac"), ("old.mp3", 44_100, 2, "new.wav")],
)
def test_file_is_enhanced_by_a_model_folder(
    overtone: Command, make_model: ModelMaker, tmp_path: Path, name: str, rate: int, channels: int, target: str
) -> None:
    source = sound(tmp_path / name, rate, channels)
    status, output, errors = overtone("enhance", source, tmp_path / target, "--model", make_model())
    assert status == 0, errors
    assert f"{tmp_path / target}: 48000 Hz, by the RNN" in output.replace("\n", "")
    info, before = audio.probe(tmp_path / target), audio.probe(source)
    assert (info.rate, info.channels) == (48_000, channels)
    assert info.frames == audio.resampled_length(before.frames, rate, 48_000)
    assert info.subtype == "PCM_16"


def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(
    overtone: Command, make_model: ModelMaker, tmp_path: Path
) -> None:
    source, kept, model = sound(tmp_path / "old.wav", 8_000, 1), tmp_path / "kept", ("--model", make_model())
    kept.write_text("precious")
    (tmp_path / "text.wav").write_text("surely no audio")
    both = ("--reference", source, "--profile", kept)
    for arguments, sentence in (
        (("enhance", source, kept.rename(tmp_path / "new.wav"), *model), "exists already; give --force"),
        (("enhance", tmp_path / "none.wav", tmp_path / "a.wav", *model), "none.wav: no such file"),
        (("enhance", tmp_path / "text.wav", tmp_path / "a.wav", *model), "text.wav: not readable as audio"),
        (("enhance", source, tmp_path / "a.wav", *model, *both), "either a profile or references, got both"),
        (("profile", source, "--output", tmp_path / "new.wav"), "exists already; give --force"),
    ):
        before = sorted(tmp_path.iterdir())
        status, _, errors = overtone(*arguments)
        assert (status, len(errors.strip().splitlines())) == (1, 1), errors
        assert sentence in errors and "Traceback" not in errors
        assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "new.wav").read_text() == "precious"
    assert overtone("enhance", source, tmp_path / "new.wav", *model, "--force")[0] == 0
    assert audio.probe(tmp_path / "new.wav").rate == 48_000


@pytest.mark.parametrize(("library", "command"), [("optuna", "tune"), ("mlflow", "models"), ("pandas", "stage train")])
def test_command_whose_extra_is_missing_names_it(
    overtone: Command, project: Path, monkeypatch: pytest.MonkeyPatch, library: str, command: str
) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise ModuleNotFoundError(f"No module named '{library}'", name=f"{library}.inside")

    monkeypatch.setattr("overtone.stages.settings", lacking)
    options = [] if command == "models" else ["--model", "rnn"]
    assert overtone(*command.split(), *options) == (
        *(1, ""),
        f"overtone: `overtone {command}` needs the extra `train`: pip install 'overtone[train]'\n",
    )


def test_missing_library_that_no_extra_brings_is_an_error_of_the_program(
    overtone: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'colourless'", name="colourless")

    monkeypatch.setattr("overtone.stages.settings", lacking)
    with pytest.raises(ModuleNotFoundError, match="colourless"):
        overtone("summary")


# --- references and what was done ---------------------------------------------------------------------------------------


def test_reference_and_its_profile_do_the_same(overtone: Command, make_model: ModelMaker, tmp_path: Path) -> None:
    source, reference = sound(tmp_path / "old.wav", 16_000, 1), tmp_path / "same.wav"
    audio.write(reference, np.random.default_rng(0).normal(0, 0.1, (1, 72_000)).astype(np.float32), 48_000)
    model = ("--model", make_model(), "--mode", "extend", "--brightness", "-2")
    status, output, errors = overtone("enhance", source, tmp_path / "a.wav", *model, "--reference", reference)
    assert status == 0, errors
    assert "band ended at 8.0 kHz: extended to 24 kHz after same.wav" in output.replace("\n", "")
    status, output, errors = overtone("profile", reference, "--output", tmp_path / "archive.json")
    assert status == 0, errors
    assert " s of same.wav" in output
    assert overtone("enhance", source, tmp_path / "b.wav", *model, "--profile", tmp_path / "archive.json")[0] == 0
    assert overtone("enhance", source, tmp_path / "c.wav", *model)[0] == 0
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c


# --- graphs -------------------------------------------------------------------------------------------------------------


def test_exported_folder_enhances_as_before(overtone: Command, make_model: ModelMaker, tmp_path: Path) -> None:
    source, folder = sound(tmp_path / "old.wav", 16_000, 2), make_model()
    assert overtone("enhance", source, tmp_path / "before.wav", "--model", folder)[0] == 0
    status, output, errors = overtone("export", folder)
    assert status == 0, errors
    for name in ("extend.onnx", "restore.onnx"):
        assert f"{folder / name}: " in output.replace("\n", "")
    assert isinstance(resolve.upsampler(str(folder))[0].model, Graphs)
    assert overtone("enhance", source, tmp_path / "after.wav", "--model", folder)[0] == 0
    before, after = (audio.read(tmp_path / name)[0] for name in ("before.wav", "after.wav"))
    np.testing.assert_allclose(after, before, atol=1.5 / 32_768)


# --- registry -----------------------------------------------------------------------------------------------------------


def test_empty_registry_is_said_to_be_empty(overtone: Command, project: Path) -> None:
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    status, output, _ = overtone("models")
    assert status == 0
    assert "nothing registered yet" in output
    for command in (("promote",), ("rollback",), ("fetch", "champion", "here"), ("summary",)):
        status, _, errors = overtone(*command)
        assert status == 1, command
        assert len(errors.strip().splitlines()) == 1, errors
    assert not (project / "here").exists()


# --- for programs and for the careful -----------------------------------------------------------------------------------


def test_version_is_printed(overtone: Command) -> None:
    from importlib.metadata import version

    assert overtone("--version") == (0, f"overtone {version('overtone')}\n", "")


def test_promote_without_a_version_refuses_where_nobody_can_be_asked(
    overtone: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from overtone.registry import registry, versions

    found = SimpleNamespace(name="overtone", version="4", tags={"decision": "not promoted: falls on a guard metric"})
    monkeypatch.setattr(versions, "resolve", lambda *_: found)
    monkeypatch.setattr(registry, "promote", lambda *_: pytest.fail("went past the gate"))
    status, _, errors = overtone("promote")
    assert status == 1
    assert "expected a version number or alias" in errors
    assert "version 4, the challenger (not promoted: falls on a guard metric)" in errors


def test_registry_commands_answer_in_json(overtone: Command, project: Path) -> None:
    status, output, errors = overtone("models", "--json")
    assert (status, json.loads(output), errors) == (0, [], "")
    for command in ("models", "lineage", "summary", "reproduce", "inspect", "compare"):
        assert "--json" in overtone(command, "--help")[1], command
