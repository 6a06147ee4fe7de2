"""Laws of the containers: pinned, without secrets, not as root, read-only; the service follows the registry and outlives it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml

import services
from conftest import ROOT, ModelMaker
from overtone import audio

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
            named[step["value"].split()[-1]] = [step]
        elif named and step["instruction"] != "COMMENT":
            named[next(reversed(named))].append(step)
    return named


def values(steps: list[dict[str, Any]], instruction: str) -> list[str]:
    return [step["value"] for step in steps if step["instruction"] == instruction]


def compose() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return tree


def test_base_images_are_pinned_by_version() -> None:
    images = re.findall(r"(?m)^ARG BASE=(.+)$", (DEPLOY / "Dockerfile").read_text())
    images += [service["image"] for service in compose()["services"].values() if "image" in service]
    assert {steps[0]["value"].split()[0] for steps in stages().values()} == {"${BASE}", "base"}
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
    assert f"127.0.0.1:{port}/{'readyz' if target == 'serve' else 'health'}" in health


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
        assert "mem_limit" in service, name


@pytest.mark.parametrize(("name", "shell"), [("mlflow-server", "sh"), ("postgresql-once.sh", "sh"), ("images", "bash")])
def test_script_is_executable_shell(name: str, shell: str) -> None:
    assert os.access(DEPLOY / name, os.X_OK)
    assert subprocess.run([shell, "-n", str(DEPLOY / name)], check=False).returncode == 0


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
    (tmp_path / "server.env").write_text(re.sub(r"(?m)=$", "=x", (DEPLOY / "server.env").read_text()))
    command = ["docker", "compose", "-f", "deploy/compose.yaml", "--env-file", "server.env", "config", "-q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# --- the images, built and run ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment in which `deploy/images` runs the images that it built; OVERTONE_IMAGES keeps them for next time."""
    if os.geteuid() or not all(map(shutil.which, ("buildah", "debootstrap"))):
        pytest.skip("images are built by root, with Debian's packages buildah and debootstrap")
    folder = environment.get("OVERTONE_IMAGES") or str(tmp_path_factory.mktemp("images"))
    made = environment | {"OVERTONE_IMAGES": folder, "OVERTONE_BUILD_OPTIONS": small_torch(environment)}
    subprocess.run([DEPLOY / "images", "build"], env=made, check=True)
    yield made
    if "OVERTONE_IMAGES" not in environment:
        shutil.rmtree(folder)


def small_torch(environment: Mapping[str, str]) -> str:
    """Options of the build for a torch without CUDA, where one lies in a folder that pip looks into."""
    for folder in environment.get("PIP_FIND_LINKS", "").split():
        for wheel in Path(folder).glob("torch-*+cpu-cp311-*.whl"):
            torch = f"torch=={wheel.name.split('-')[1]}"
            return f"--volume {folder}:{folder}:ro --build-arg PIP_FIND_LINKS={folder} --build-arg TORCH={torch}"
    return ""


def command(image: str, environment: Mapping[str, str], *options: object) -> list[object]:
    variables = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    return [DEPLOY / "images", "run", image, *variables, *options]


@contextmanager
def serving(folder: Path, volume: Path, images: Mapping[str, str], registry: Mapping[str, str]) -> Iterator[str]:
    """The address of a service in its container, ready."""
    port = services.free_port()
    address = f"http://127.0.0.1:{port}"
    more = ("--volume", f"{volume}:/var/lib/overtone/.cache", "--", "--port", port, "--poll-seconds", "1")
    began = time.monotonic()
    log = folder / f"serve-{port}.log"
    with services.running(command("serve", registry, *more), lambda: services.get(f"{address}/readyz"), log, images):
        print(f"serve: ready after {time.monotonic() - began:.1f} s")
        yield address
        print(log.read_text())


def version(address: str) -> str:
    """Of the model that answers."""
    sound = audio.encode(np.zeros((1, 8_000), np.float32), 16_000)
    answer = httpx.post(f"{address}/v1/enhance", content=sound, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-overtone-version"]


def assert_confined(address: str) -> None:
    """The server is no privileged user, and not even root can write beside its volume."""
    port = int(address.rpartition(":")[2])
    (pid,) = {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.laddr and one.laddr.port == port and one.status == "LISTEN"
    }
    assert set(psutil.Process(pid).uids()) == {10001}
    for place in ("", "overtone", "var/lib/overtone"):
        with pytest.raises(OSError, match="Read-only file system"):
            Path(f"/proc/{pid}/root", place, "written").touch()


@pytest.mark.long
def test_service_follows_the_registry_of_the_other_image_and_outlives_it(
    images: dict[str, str], project: Path, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overtone.registry import register, registry
    from overtone.registry.scores import Scored
    from overtone.settings import RegisterParams

    gate = RegisterParams(name="overtone", metric="overall.all.lsd", better="lower")
    volume = project / "volume"
    volume.mkdir()
    os.chown(volume, 10001, 10001)
    with ExitStack() as later, ExitStack() as servers:
        began = time.monotonic()
        team = servers.enter_context(services.team(project, images, lambda settings: command("mlflow", settings)))
        print(f"mlflow: users made after {time.monotonic() - began:.1f} s, PostgreSQL and the object store among them")
        assert_confined(team.uri)
        for name, value in team.member("admin").items():
            if name.startswith("MLFLOW_"):
                monkeypatch.setenv(name, value)
        for number, score in ((1, 1.0), (2, 2.0)):
            scored = Scored({"test_set": "a", "overall": {"all": {"lsd": score}}})
            folder = make_model(f"v{number}", run_id=str(number) * 32, seed=number)
            register.register([register.Candidate(folder, scored)], gate)
        reader = {name: value for name, value in team.member("bob").items() if name.startswith("MLFLOW_")}
        address = later.enter_context(serving(project, volume, images, reader))
        assert_confined(address)
        assert version(address) == "1"
        registry.promote("overtone", 2)
        deadline = time.monotonic() + 60
        while version(address) != "2":
            assert time.monotonic() < deadline, "the new champion was not taken"
            time.sleep(0.5)
        servers.close()
        assert version(address) == "2"
        later.close()
        with serving(project, volume, images, reader) as address:
            assert version(address) == "2"
