"""Laws of the package: built, checked and installed where no extra is, it enhances with the models it carries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from conftest import INHERITED, ROOT
from overtone import audio
from overtone.errors import extras
from overtone.registry import released

pytestmark = pytest.mark.slow

# Extras whose libraries are taken away.
BLOCKED = {"train", "serve", "ray", "postgres", "server"}

# What a build reads.
SOURCES = (
    *("src", "released", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"),
    *("params.yaml", "dvc.yaml"),
)
# Runs when the interpreter starts: libraries of extras are not there, and asking for one is written down.
ABSENT = """
import os, sys

LIBRARIES = {libraries!r}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LIBRARIES:
            with open(os.environ["ASKED"], "a") as file:
                file.write(name + "\\n")
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built of it."""
    folder = tmp_path_factory.mktemp("built")
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", *released.KINDS)
            shutil.copytree(ROOT / name, tree / name, ignore=ignore)
        else:
            shutil.copyfile(ROOT / name, tree / name)
    (tree / released.REMOTE).symlink_to(ROOT / released.REMOTE)
    # Without isolation: a build environment of its own would be fetched from the network.
    command = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir", str(folder)]
    done = subprocess.run([*command, str(tree)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_wheel_and_archive_are_in_order(built: Path) -> None:
    files = [str(only(built, "*.whl")), str(only(built, "*.tar.gz"))]
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_wheel_carries_the_released_models_and_the_archive_what_they_are_made_of(built: Path) -> None:
    wheel = zipfile.ZipFile(only(built, "*.whl")).namelist()
    with tarfile.open(only(built, "*.tar.gz")) as file:
        archive = {name.partition("/")[2] for name in file.getnames()}
    objects = {name for name in archive if name.startswith(f"{released.REMOTE}/") and name.count("/") == 4}
    for kind in released.KINDS:
        assert {f"overtone/weights/{kind}/{name}" for name in released.FILES} <= set(wheel)
        listing, digest = released.listed(ROOT, kind), released.listing_digest(ROOT, kind)
        assert listing is not None and digest is not None
        for stored in (digest, *listing.values()):
            objects.remove(released.stored(ROOT, stored).relative_to(ROOT).as_posix())
    assert {"overtone/template/params.yaml", "overtone/template/dvc.yaml"} <= set(wheel)
    assert {"params.yaml", "dvc.yaml"} <= archive
    assert objects == set(), "nothing else of the remote, such as the corpus"
    assert not [name for name in wheel if name.startswith(("tests", "setup"))]


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment where the base dependencies are and those of the extras are not."""

    bin: Path
    packages: Path
    here: Path
    asked: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name not in (*INHERITED, "PYTHONPATH")}
        environment = kept | {"ASKED": str(self.asked), "HOME": str(self.here), "OMP_NUM_THREADS": "1"}
        command = (str(self.bin / command[0]), *command[1:])
        return subprocess.run(
            command, cwd=self.here, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    def wanted(self) -> list[str]:
        """What libraries of extras were asked for since the last time."""
        names = self.asked.read_text().split() if self.asked.exists() else []
        self.asked.unlink(missing_ok=True)
        return names


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "v")], check=True, timeout=120)
    pip = (sys.executable, "-m", "pip", "--python", str(folder / "v"), "install", "--no-deps", "--no-index")
    # Otherwise pip takes the project that it runs in for installed.
    command = [*pip, "--ignore-installed", str(only(built, "*.whl"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Successfully installed overtone" in done.stdout, done.stdout + done.stderr
    packages = only(folder / "v", "lib/python3*/site-packages")
    # A path in a .pth file is searched, but .pth files there (such as this project's own) are not read.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport absent\n")
    blocked = tuple(name.replace("-", "_") for name, extra in extras().items() if extra in BLOCKED)
    # torch wants it too.
    blocked = tuple(name for name in blocked if name != "filelock")
    (packages / "absent.py").write_text(ABSENT.format(libraries=blocked))
    here = folder / "here"
    here.mkdir()
    return Installed(folder / "v" / "bin", packages, here, folder / "asked")


@pytest.fixture(scope="module")
def old(installed: Installed) -> Path:
    """A user's MP3: three seconds of a made voice, stereo."""
    time = np.arange(3 * 44_100) / 44_100
    voice = sum(np.sin(2 * np.pi * k * 150 * time) / k for k in range(1, 60)) * np.clip(np.sin(9 * time), 0.05, None)
    signal = scipy.signal.lfilter([0.1], [1.0, -0.5], np.stack([voice, 0.7 * voice]))
    audio.write(installed.here / "old.mp3", signal.astype(np.float32), 44_100)
    return installed.here / "old.mp3"


def test_absent_libraries_are_absent(installed: Installed) -> None:
    """What the other laws rest on: the package is the wheel's, the block blocks, and it is seen."""
    for library in ("mlflow", "pytorch_lightning"):
        assert installed.run("python", "-c", f"import {library}").returncode == 1
        assert installed.wanted() == [library]
    done = installed.run("python", "-c", "import overtone; print(overtone.__path__[0])")
    assert done.stdout.strip() == str(installed.packages / "overtone")


@pytest.mark.parametrize("model", ["auto", pytest.param("released-cnn", marks=pytest.mark.long)])
def test_installed_command_enhances_an_mp3_in_an_empty_folder(installed: Installed, old: Path, model: str) -> None:
    installed.wanted()
    done = installed.run("overtone", "enhance", "old.mp3", f"{model}.flac", "--model", model)
    assert done.returncode == 0, done.stdout + done.stderr
    before, after = audio.probe(old), audio.probe(installed.here / f"{model}.flac")
    assert (after.rate, after.channels) == (48_000, 2)
    assert after.frames == audio.resampled_length(before.frames, 44_100, 48_000)
    assert installed.wanted() == [], "a library of an extra was asked for"


def test_installed_package_enhances_from_python(installed: Installed) -> None:
    installed.wanted()
    code = (
        "import numpy, overtone; up = overtone.Upsampler.load();"
        "print(up.name, up.enhance(numpy.zeros(8000, numpy.int16), 8000).shape)"
    )
    done = installed.run("python", "-c", code)
    assert done.stdout == "released (48000,)\n", done.stderr
    assert installed.wanted() == []


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("models", "`overtone models`"),
        pytest.param("tune --model rnn", "`overtone tune`", marks=pytest.mark.long),
        pytest.param("stage train --model rnn", "`overtone stage train`", marks=pytest.mark.long),
        ("enhance old.mp3 new.flac --model champion", "the model registry, where 'champion' is looked up,"),
    ],
)
def test_what_needs_an_extra_says_which(installed: Installed, old: Path, command: str, what: str) -> None:
    shutil.copyfile(ROOT / "params.yaml", installed.here / "params.yaml")
    # A store that somebody made with all extras.
    (installed.here / "mlflow.db").touch()
    done = installed.run("overtone", *command.split())
    for name in ("params.yaml", "mlflow.db"):
        (installed.here / name).unlink()
    assert done.returncode == 1
    assert done.stderr == f"overtone: {what} needs the extra `train`: pip install 'overtone[train]'\n"


def test_damaged_model_of_the_package_is_refused(installed: Installed, old: Path) -> None:
    weights = installed.packages / "overtone" / "weights" / released.NAMES["released"] / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = installed.run("overtone", "enhance", "old.mp3", "new.flac")
    weights.write_bytes(whole)
    assert done.returncode == 1
    assert f"{weights}: not the file that was released" in done.stderr
