"""A model folder as a logged MLflow model that carries the package's code, and back to a model folder."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import overtone
from overtone.models.folder import CONFIG
from overtone.models.folder import WEIGHTS as WEIGHTS
from overtone.tracking import store
from overtone.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

REQUIRED = (WEIGHTS, CONFIG, "run.json")
OPTIONAL = ("history.csv",)
ARTIFACT = "model"
# Tag of a version: the SHA-256 of each file of its model folder.
FILES = "files_sha256"
# What enhancing needs of the package's dependencies; explicit, since MLflow's own guess takes half a minute.
REQUIREMENTS = (
    "mlflow",
    "torch",
    "onnxruntime",
    "numpy",
    "pandas",
    "scipy",
    "soundfile",
    "soxr",
    "safetensors",
    "pydantic",
    "pyyaml",
)


def requirements() -> list[str]:
    """The packages that serving needs, at the versions installed here (a build's local suffix such as `+cpu` removed)."""
    return [f"{name}=={installed(name).partition('+')[0]}" for name in REQUIREMENTS]


@dataclass(frozen=True)
class Logged:
    """A logged model's id, and the SHA-256 of each file of its model folder."""

    model_id: str
    digests: Mapping[str, str]


def log(client: MlflowClient, folder: Path, run_id: str) -> Logged:
    """Log a model folder as a pyfunc model of a run, with its ONNX graphs, signature, input example and the package's code.

    Raises:
        TrackingError: the folder lacks a file.
        OvertoneError: the model does not enhance the input example.
    """
    from overtone.registry import pyfunc

    for name in REQUIRED:
        if not (folder / name).is_file():
            raise TrackingError(f"{folder / name}: no such file; expected a model folder with {', '.join(REQUIRED)}")
    # MLflow itself only warns about a model that cannot serve.
    pyfunc.try_out(folder)
    experiment = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment, name="upsampler", source_run_id=run_id, model_type="pyfunc")
    try:
        with package(folder, run_id, logged.model_id) as made:
            client.log_model_artifacts(logged.model_id, str(made))
            digests = digested(made / "artifacts" / ARTIFACT)
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    return Logged(str(logged.model_id), digests)


@contextmanager
def package(folder: Path, run_id: str, model_id: str) -> Iterator[Path]:
    """A model folder as MLflow packs it, in a temporary folder: with signature, example, requirements and code.

    Args:
        run_id, model_id: of the run and of the logged model that it is for.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    from overtone.models import graphs
    from overtone.registry import pyfunc, released

    with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
        # Named as in the logged model.
        model, code, made = (Path(temporary) / name for name in (ARTIFACT, "overtone", "package"))
        model.mkdir()
        for name in (*REQUIRED, *OPTIONAL):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, model / name)
        graphs.export(model)
        ignored = shutil.ignore_patterns("__pycache__", released.PACKED.name)
        shutil.copytree(Path(overtone.__path__[0]), code, ignore=ignored)
        mlflow.pyfunc.save_model(
            path=str(made),
            python_model=str(Path(pyfunc.__file__)),
            artifacts={ARTIFACT: str(model)},
            code_paths=[str(code)],
            signature=pyfunc.signature(),
            input_example=pyfunc.input_example(),
            pip_requirements=requirements(),
            model_config=dict(pyfunc.LIMITS),
            mlflow_model=Model(f"models:/{model_id}", run_id, model_uuid=model_id, model_id=model_id),
        )
        yield made


def digested(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder, by name."""
    found = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def download(version: ModelVersion, into: Path) -> Path:
    """Fetch the model folder of a registered version into an existing folder.

    Raises:
        TrackingError: the files cannot be had or are not a model folder.
    """
    from mlflow.exceptions import MlflowException

    where = f"models:/{version.name}/{version.version}"
    into.mkdir(exist_ok=True)
    try:
        found: Any = _stored(version).download_artifacts(f"artifacts/{ARTIFACT}", str(into))
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{where}: its files cannot be fetched: {error}") from None
    folder = Path(found)
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise TrackingError(f"{where}: {name} is missing among its files")
    return folder


def _stored(version: ModelVersion) -> Any:
    """The place of a version's files: by its logged model, since a registered name may hold what an address cannot."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    source = str(version.source)
    if source.startswith("models:/m-"):
        source = str(store.client().get_logged_model(source.removeprefix("models:/")).artifact_location)
    return get_artifact_repository(source)
