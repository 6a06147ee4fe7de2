"""Laws of profiles in the registry: kept under a name beside the models, found by it, checked, at hand while it is away."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import ModelMaker
from overtone import audio, cli
from overtone.enhance.profile import Profile
from overtone.errors import OvertoneError
from overtone.registry import register, registry, resolve
from overtone.registry.register import Candidate
from overtone.registry.versions import RegistryError
from test_registry import GATE, NAME, light_packaging, model_number, scored  # noqa: F401

PROFILE = ("profile", "reference.wav", "--output", "archive.json", "--register", "archive")


@pytest.fixture
def kept(model_number: ModelMaker, project: Path) -> Path:  # noqa: F811
    """A project with a champion, beside which a profile is kept."""
    noise = np.random.default_rng(1).normal(0.0, 0.1, (1, 96_000)).astype(np.float32)
    audio.write(project / "reference.wav", noise, 48_000)
    audio.write(project / "in.wav", noise[:, :8_000], 8_000)
    refused = CliRunner().invoke(cli.app, [*PROFILE, "--force"])
    assert "no such model" in str(refused.exception), refused.output
    register.register([Candidate(model_number(1), scored(1.0))], GATE)
    result = CliRunner().invoke(cli.app, [*PROFILE, "--force"])
    assert result.exit_code == 0, result.output
    return project


def enhanced(project: Path, *options: str) -> bytes:
    result = CliRunner().invoke(cli.app, ["enhance", "in.wav", "out.wav", "--force", *options])
    assert result.exit_code == 0, (result.output, result.exception)
    return (project / "out.wav").read_bytes()


def test_profile_is_used_by_its_name_and_serves_later_versions(
    kept: Path,
    model_number: ModelMaker,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_file = enhanced(kept, "--profile", "archive.json")
    (kept / "archive.json").unlink()
    assert enhanced(kept, "--profile", "archive") == by_file != enhanced(kept)
    register.register([Candidate(model_number(2), scored(0.9))], GATE)
    assert registry.models(NAME)[0].aliases == ("challenger", "champion")
    assert Profile.load(resolve.profile(Path("archive"))).name == "reference.wav"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert Profile.load(resolve.profile(Path("archive"))).name == "reference.wav"


def test_unknown_name_and_changed_file_are_refused(kept: Path) -> None:
    with pytest.raises(RegistryError, match=r"attic: no such file, and overtone keeps no profile .*\(known: archive\)"):
        resolve.profile(Path("attic"))
    (stored,) = (kept / "mlruns").rglob("profiles/archive.json")
    stored.write_text(re.sub("reference", "changed", stored.read_text()))
    with pytest.raises(RegistryError, match="not the one that was kept"):
        resolve.profile(Path("archive"))
    with pytest.raises(OvertoneError, match="expected a name of letters"):
        resolve.keep_profile("../escape", kept / "archive.json")
