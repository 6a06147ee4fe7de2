"""Laws of an upgrade: what an earlier version wrote is read and gives the same output, or is refused with what to do."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from conftest import ROOT, ModelMaker
from overtone import audio, settings
from overtone.enhance.upsampler import Mode, Upsampler
from overtone.models.folder import CONFIG, FORMAT, ModelError
from overtone.models.model import Model
from overtone.settings import ParamsError

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(path.name for path in (FIXTURES / "versions").iterdir())
# Of recorded outputs by torch, as a share of the loudest sample: another processor adds up in another order.
SAME, GRAPH = 1e-5, 2e-5
# Of a model folder whose networks this version has no longer.
REFUSAL = (
    r"config\.json: a model folder of format 1, .* train it again, use the model `released`, or use it with overtone"
)


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Path:
    return FIXTURES / "versions" / str(request.param)


@pytest.fixture
def registered(version: Path, tmp_path: Path) -> Path:
    """A registered model as MLflow stores it."""
    with tarfile.open(version / "registered.tar.xz") as archive:
        archive.extractall(tmp_path / "registered", filter="data")
    return tmp_path / "registered"


def difference(upsampler: Upsampler, version: Path, kind: str, mode: Mode) -> float:
    """Between what a model makes of the recorded input, and what it made of it then."""
    signal, rate = audio.read(version / "input.flac")
    found = upsampler.enhance(signal, rate, mode=mode, cutoff_hz=6_000.0)
    recorded = np.load(version / f"{kind}-{mode}.npz", allow_pickle=False)["output"]
    assert found.shape == recorded.shape
    assert np.abs(recorded - audio.resample(signal, rate, 48_000)).max() > 0.01, "adds nothing, proves nothing"
    return float(np.abs(found - recorded).max() / max(1.0, np.abs(recorded).max()))


# --- models -------------------------------------------------------------------------------------------------------------


def format_of(folder: Path) -> int:
    return int(json.loads((folder / CONFIG).read_text()).get("format", 1))


@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_model_folders_of_earlier_versions_give_the_same_output_or_say_what_to_do(
    version: Path, registered: Path, mode: Mode
) -> None:
    for kind, folder in (("cnn", version / "cnn"), ("rnn", registered / "artifacts" / "model")):
        if format_of(folder) == FORMAT:
            assert difference(Upsampler.load(folder, runtime="torch"), version, kind, mode) < SAME
            continue
        with pytest.raises(ModelError, match=REFUSAL):
            Upsampler.load(folder)


def test_registered_models_of_earlier_versions_are_fetched_and_used(
    version: Path, registered: Path, project: Path
) -> None:
    """By `champion`, as every command names it."""
    from overtone.registry import fetch, registry, versions
    from overtone.tracking import store

    client = store.client()
    tags = json.loads((version / "registered.json").read_text())
    experiment = store.experiment_id(client)
    run = client.create_run(experiment).info.run_id
    logged = client.create_logged_model(experiment, name="upsampler", source_run_id=run, model_type="pyfunc").model_id
    client.log_model_artifacts(logged, str(registered))
    client.finalize_logged_model(logged, "READY")
    client.create_registered_model("overtone")
    client.create_model_version("overtone", f"models:/{logged}", run, tags=tags, model_id=logged)
    client.set_registered_model_alias("overtone", versions.CHAMPION, "1")
    if "files_sha256" in tags:
        folder = fetch.fetch("overtone", versions.CHAMPION, project / "cache")
        assert difference(Upsampler.load(folder, runtime="torch"), version, "rnn", "extend") < SAME
    else:
        with pytest.raises(versions.RegistryError, match="its tag files_sha256 is damaged or missing"):
            fetch.fetch("overtone", versions.CHAMPION, project / "cache")
    (row,) = registry.models("overtone")
    assert (row.aliases, row.model, row.decision) == ((versions.CHAMPION,), "rnn", tags["decision"])


@pytest.mark.slow
def test_registered_models_of_earlier_versions_still_serve_by_their_own_code(
    version: Path, registered: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    script = """
import sys, pandas, mlflow.pyfunc, overtone
from pathlib import Path
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = pandas.DataFrame({"audio": [Path(sys.argv[2]).read_bytes()]})
Path(sys.argv[3]).write_bytes(model.predict(frame, params={"mode": "extend", "cutoff_hz": 6000.0})["audio"][0])
"""
    sound, made = version / "input.flac", tmp_path / "made.wav"
    # The code that the model carries comes first, as in `mlflow models serve`.
    variables = environment | {"PYTHONPATH": str(registered / "code")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(registered), str(sound), str(made)],
        env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, _ = audio.read(made)
    recorded = np.load(version / "rnn-extend.npz", allow_pickle=False)["output"]
    # Encoded in 16 bit, which clips.
    np.testing.assert_allclose(found, np.clip(recorded, -1.0, 1.0), atol=GRAPH + 1 / 32_768)


def test_files_of_this_version_are_kept_for_the_next() -> None:
    """A tag without them could not be upgraded from with any certainty."""
    from importlib import metadata

    assert metadata.version("overtone") in VERSIONS, "run tests/fixtures/make_version.py; see docs/how-to/release.md"


def test_files_of_a_version_are_small() -> None:
    for name in VERSIONS:
        files = [path for path in (FIXTURES / "versions" / name).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 300_000


# --- the format of a model folder ---------------------------------------------------------------------------------------


def reformatted(folder: Path, **changes: Any) -> Path:
    path = folder / CONFIG
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder


LATER = {"format": FORMAT + 1, "overtone": "7.1.0", "network": {"unheard": "of"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None, "overtone": None}, REFUSAL),
        (LATER, r"config\.json: a model folder of format 3, .* install overtone 7\.1\.0 or later"),
        *(
            ({"format": wrong}, r"config\.json: format: expected a whole number from 1")
            for wrong in (0, 1.5, "1", True)
        ),
    ],
)
def test_folder_of_another_format_says_what_to_do(
    make_model: ModelMaker, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Model.load(reformatted(make_model(), **changes))


# --- settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.fit.epochs", "train.fit.epoch_steps"),
        ("train.extend.leraning_rate", "train.extend.learning_rate"),
        ("train.fit.learning_rate", "train.extend.learning_rate or train.restore.learning_rate"),
        ("register.margins", "register.margin"),
    ],
)
def test_misspelt_or_misplaced_setting_is_answered_with_what_was_meant(tmp_path: Path, key: str, meant: str) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    *parents, leaf = key.split(".")
    node = tree
    for part in parents:
        node = node[part]
    node[leaf] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ParamsError, match=rf"{key}: no such setting; did you mean {meant}"):
        settings.load(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match=rf"has no setting '{key}'; did you mean {meant}"):
        settings.load(ROOT / "params.yaml", (f"{key}=1",))
