"""Laws of the containers, checked where no engine runs them: pinned, without secrets, not as root, and in good health."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT

DEPLOY = ROOT / "deploy"
SECRET = re.compile(r"(?i)(password|passwd|secret|token|api_?key|access_?key)\w*\s*[=:]\s*['\"]?[\w-]+")


def stages() -> dict[str, list[dict[str, Any]]]:
    """The instructions of each stage of the Dockerfile, by its name."""
    parser = pytest.importorskip("dockerfile_parse", reason="dockerfile-parse is missing: pip install -e '.[dev]'")
    # The parser would else leave a file of its own in the folder.
    with (DEPLOY / "Dockerfile").open("rb") as file:
        found = parser.DockerfileParser(fileobj=file).structure
    named: dict[str, list[dict[str, Any]]] = {}
    for step in found:
        if step["instruction"] == "FROM":
            named[step["value"].split()[-1]] = current = [step]
        elif step["instruction"] != "COMMENT":
            current.append(step)
    return named


def values(steps: list[dict[str, Any]], instruction: str) -> list[str]:
    return [step["value"] for step in steps if step["instruction"] == instruction]


def compose() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return tree


def test_base_images_are_pinned_by_version() -> None:
    images = [steps[0]["value"].split()[0] for steps in stages().values()]
    images = [image for image in images if image not in stages()]
    images += [service["image"] for service in compose()["services"].values() if "image" in service]
    assert len(images) == 2
    assert all(re.fullmatch(r"[\w/.-]+:\d+\.\d+[\w.-]*", image) for image in images), images


@pytest.mark.parametrize("target", ["serve", "mlflow"])
def test_image_runs_as_a_user_and_says_how_it_is(target: str) -> None:
    steps = stages()[target]
    (user,) = values(steps, "USER")
    assert int(user.partition(":")[0]) > 0
    order = [step["instruction"] for step in steps]
    assert order.index("USER") > max(place for place, name in enumerate(order) if name in ("RUN", "COPY"))
    (health,) = values(steps, "HEALTHCHECK")
    (port,) = values(steps, "EXPOSE")
    assert f"127.0.0.1:{port}/health" in health


def test_no_secret_is_in_a_layer_or_a_file() -> None:
    for step in (step for steps in stages().values() for step in steps):
        assert not (step["instruction"] in ("ENV", "ARG", "RUN", "CMD", "ENTRYPOINT") and SECRET.search(step["value"]))
    for service in compose()["services"].values():
        for name, value in (service.get("environment") or {}).items():
            secret = re.search(r"(?i)password|secret|key", name)
            assert not secret or value.startswith(("${", "/run/secrets/")), name


def test_build_sees_what_it_copies_and_nothing_that_is_private() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let = {rule[1:].removesuffix("/*.dvc") for rule in rules if rule.startswith("!")}
    copied = {
        word
        for steps in stages().values()
        for value in values(steps, "COPY")
        for word in value.split()[:-1]
        if word[0] != "-"
    }
    for name in copied:
        assert (ROOT / name).exists(), name
        assert any(name == rule or rule.startswith(f"{name}/") for rule in let), f"{name} is kept out"
    assert not {"deploy", "deploy/server.env", ".git", "data", "mlflow.db"} & let


def test_compose_names_targets_files_and_volumes_that_exist() -> None:
    tree = compose()
    for name, service in tree["services"].items():
        if "build" in service:
            assert service["build"]["target"] in stages()
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
            assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "TLS is the proxy's"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in tree["volumes"], volume
        assert set(service.get("depends_on", ())) <= set(tree["services"]), name
        assert set(service.get("secrets", ())) <= set(tree["secrets"]), name


@pytest.mark.parametrize("name", ["mlflow-server", "postgresql-once.sh"])
def test_script_is_executable_shell(name: str) -> None:
    assert os.access(DEPLOY / name, os.X_OK)
    assert subprocess.run(["sh", "-n", str(DEPLOY / name)], check=False).returncode == 0


def test_hadolint_finds_nothing() -> None:
    found = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip("hadolint is missing: pip install -e '.[dev]'")
    done = subprocess.run([found, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_docker_reads_the_compose_file(tmp_path: Path) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker has no compose here")
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    (tmp_path / "server.env").write_text((DEPLOY / "server.env").read_text().replace("PGPASSWORD=", "PGPASSWORD=x"))
    command = ["docker", "compose", "-f", "deploy/compose.yaml", "--env-file", "server.env", "config", "-q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
