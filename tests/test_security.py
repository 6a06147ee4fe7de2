"""Laws of SECURITY.md that no package's own tests hold: hostile models and data, a real server seen from outside, licences."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import re
import shutil
import socket
import struct
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT, ModelMaker
from hostile import chunk, riff, wave_format
from overtone import audio
from overtone.errors import OvertoneError
from overtone.models.folder import CONFIG, WEIGHTS, ModelError
from overtone.models.model import Model
from overtone.models.session import open_graphs
from overtone.registry import resolve
from test_http import KEY, started
from test_registry import GATE, NAME, light_log, scored

LOCK = ROOT / "requirements" / "lock-py311.txt"


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """What a trap would make; nothing may."""
    path = tmp_path / "executed"
    pickle.loads(pickle.dumps(Trap(path)))
    assert path.is_dir(), "the trap works"
    path.rmdir()
    yield path
    assert not path.exists(), "code of a file was run"


# --- files of strangers -------------------------------------------------------------------------------------------------


def test_weights_that_are_a_pickle_are_refused(make_model: ModelMaker, mark: Path) -> None:
    folder = make_model()
    torch.save({"stem.weight": Trap(mark)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"weights\.safetensors: not the weights"):
        Model.load(folder)
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(ModelError, match=r"weights\.safetensors: not the weights"):
        Model.load(folder)


@pytest.mark.parametrize("force", ["", "1"], ids=["plain", "with torch told to trust"])
def test_checkpoint_that_is_a_pickle_is_refused(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: str
) -> None:
    """By Lightning, as a training calls it when it goes on."""
    import pytorch_lightning as pl

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "")
    torch.save({"state_dict": Trap(mark)}, tmp_path / "last.ckpt")
    module = pl.LightningModule()
    module.training_step = module.configure_optimizers = lambda *_: None  # type: ignore[method-assign]
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    if force:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", force)
    with pytest.raises(Exception, match=r"(?i)weights.?only"):
        trainer.fit(module, [0], ckpt_path=tmp_path / "last.ckpt", weights_only=True)


def test_every_loading_of_a_pickle_is_told_to_run_nothing() -> None:
    """`pickle` itself serves only between processes of one call, on Ray."""
    allowed = {"pickle": {"overtone/data/cluster.py"}}
    for path in sorted((ROOT / "src").rglob("*.py")):
        name, tree = path.relative_to(ROOT / "src").as_posix(), ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
                for module in modules:
                    dangerous = module.partition(".")[0] in (
                        "pickle",
                        "joblib",
                        "cloudpickle",
                        "dill",
                        "shelve",
                        "marshal",
                    )
                    assert not dangerous or name in allowed.get(module, set()), f"{name} imports {module}"
            if isinstance(node, ast.Call):
                called, given = ast.unparse(node.func), {one.arg: ast.unparse(one.value) for one in node.keywords}
                if called == "torch.load" or (called == "trainer.fit" and "ckpt_path" in given):
                    assert given.get("weights_only") == "True", f"{name}:{node.lineno}"
                assert given.get("allow_pickle", "False") == "False", f"{name}:{node.lineno}"
                assert called not in ("eval", "exec", "mlflow.pyfunc.load_model", "os.system"), name
                # PyYAML's makes objects; ruamel's, by which comments are kept, is the one reader of settings.
                assert called != "yaml.load" or name == "overtone/settings/loading.py", name
                # The user's own command, from the user's own settings.
                shell = "False" if name != "overtone/registry/hooks.py" else "isinstance(command, str)"
                assert given.get("shell", shell) == shell, f"{name}:{node.lineno}"


@pytest.mark.parametrize(
    "change",
    [
        *({"width": 10**7}, {"layers": 10**9}, {"width": 10**12}),
        *({"width": "../../weights"}, {"path": "/"}),
    ],
    ids=str,
)
def test_settings_of_a_model_take_no_more_than_its_weights(make_model: ModelMaker, change: dict[str, Any]) -> None:
    folder = make_model()
    config = json.loads((folder / CONFIG).read_text())
    config["bodies"]["extend"] |= change
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"not the (weights of|settings)"):
        Model.load(folder)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": ' + "1" * 5000 + "}", "\xff", "[]"], ids=lambda one: one[:8]
)
def test_settings_that_are_no_settings_are_refused(make_model: ModelMaker, text: str) -> None:
    folder = make_model()
    (folder / CONFIG).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json"):
        Model.load(folder)


@pytest.mark.parametrize("format", ["MAT4", "MAT5", "VOC", "SVX", "NIST", "IRCAM", "PAF", "PVF", "AVR", "HTK"])
def test_kinds_of_file_that_are_not_read_do_not_reach_their_parsers(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    soundfile.write(written, np.zeros(800), 8_000, "PCM_16", format=format)
    (tmp_path / "sound.wav").write_bytes(written.getvalue())
    soundfile.SoundFile(io.BytesIO(written.getvalue())).close()  # libsndfile alone would read it
    monkeypatch.setattr(soundfile, "SoundFile", None)
    for source in (tmp_path / "sound.wav", written):
        with pytest.raises(audio.AudioError, match=r"not readable as audio \(no header that is known\); expected WAV"):
            audio.read(source)


def test_adpcm_whose_blocks_contradict_its_header_is_refused() -> None:
    """As in CVE-2026-37555, where 50,000 samples a block overflow the number of samples of the file."""
    head = wave_format(tag=0x11, bits=4, block=1_024, more=struct.pack("<HH", 2, 50_000))
    data = riff(chunk(b"fmt ", head), chunk(b"fact", bytes(4)), chunk(b"data", bytes(1_024) * 100))
    with pytest.raises(audio.AudioError, match="not readable as audio"):
        audio.read(io.BytesIO(data))
    whole = struct.pack("<HH", 2, 2 * (1_024 - 4) + 1)
    sound = riff(chunk(b"fmt ", wave_format(tag=0x11, bits=4, block=1_024, more=whole)), chunk(b"data", bytes(102_400)))
    assert audio.read(io.BytesIO(sound))[0].shape == (1, 100 * 2_041)


@pytest.mark.parametrize("where", ["../secret.bin", "secret.bin", "/dev/zero"])
def test_graph_that_names_other_files_is_refused(make_model: ModelMaker, where: str) -> None:
    import onnx

    folder = make_model()
    for place in (folder, folder.parent):
        np.zeros(4, np.float32).tofile(place / "secret.bin")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=where)
    values = [onnx.helper.make_tensor_value_info(name, 1, [4]) for name in ("x", "y")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", values[:1], values[1:], [tensor]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    for name in ("extend.onnx", "restore.onnx"):
        (folder / name).write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="names other files to read"):
        open_graphs(folder)


def test_registered_code_is_not_run_by_overtone(
    project: Path, make_model: ModelMaker, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything of a version but the model folder may be anyone's: it is neither fetched nor imported."""
    from overtone.registry import fetch, packaging, register

    monkeypatch.setattr(packaging, "log", light_log)
    register.register([register.Candidate(make_model(), scored(1.0))], GATE)
    (weights,) = (project / "mlruns").rglob(WEIGHTS)
    code = f"import os; os.mkdir({str(mark)!r})"
    for place in (weights.parents[2], weights.parent):
        (place / "code" / "overtone").mkdir(parents=True)
        for name in ("code/overtone/__init__.py", "serving.py", "conftest.py", "MLmodel", "python_model.pkl"):
            (place / name).write_bytes(pickle.dumps(Trap(mark)) if name.endswith("pkl") else code.encode())
    folder = fetch.fetch(NAME, "champion", project / "cache")
    Model.load(folder)
    assert not {path.name for path in folder.iterdir()} & {"code", "serving.py", "MLmodel", "python_model.pkl"}


@pytest.mark.parametrize(
    "change",
    [
        *({"name": "../../secret.tar"}, {"name": "/dev/zero"}, {"name": "train-00000-0123456789ab.tar\n"}),
        *({"sha256": "../../secret"}, {"sha256": "0" * 63}, {"samples": -1}, {"bytes": -1}, {"url": "file:///"}),
    ],
    ids=str,
)
def test_index_of_shards_names_nothing_but_shards(tmp_path: Path, change: dict[str, Any]) -> None:
    from overtone.data import shards

    good = {"name": "train-00000-0123456789ab.tar", "samples": 1, "bytes": 1, "sha256": "0" * 64}
    index = {"format": "overtone-shards", "version": shards.VERSION, "train": [good], "valid": []}
    (tmp_path / shards.INDEX).write_text(json.dumps(index))
    assert shards.read_index(shards.Place(str(tmp_path))).train[0].name == good["name"]
    (tmp_path / shards.INDEX).write_text(json.dumps(index | {"train": [good | change]}))
    with pytest.raises(shards.ShardsError, match="not an index of shards"):
        shards.read_index(shards.Place(str(tmp_path)))


def test_pulled_model_that_is_not_what_the_pointer_names_is_refused(tmp_path: Path) -> None:
    from overtone.registry import released

    shutil.copytree(
        ROOT / "released", tmp_path / "released", ignore=shutil.ignore_patterns("*.flac", "rnn", "cnn", "rnn-*")
    )
    shutil.copytree(ROOT / "dvcstore", tmp_path / "dvcstore")
    folder = released.fetch("released-rnn", tmp_path)
    shutil.rmtree(tmp_path / "dvcstore")
    assert released.fetch("released-rnn", tmp_path) == folder
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(released.ReleasedError, match="not the files that"):
        released.fetch("released-rnn", tmp_path)


# --- secrets ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_password_of_a_tracking_server_is_not_shown(project: Path, environment: dict[str, str]) -> None:
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://someone:a-secret-word@127.0.0.1:{taken.getsockname()[1]}"
        variables = environment | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        source = str(Path(resolve.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-m", "overtone", "models"],
            env=variables | {"PYTHONPATH": source}, cwd=project, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "a-secret-word" not in done.stdout + done.stderr


def test_user_of_a_tracking_server_is_kept_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    from overtone.tracking import address, store

    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://some%40one:a%2Fsecret@tracking.example:5000/path")
    assert store.tracking_uri() == store.public_uri() == "https://tracking.example:5000/path"
    address.keep_user()
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("some@one", "a/secret")


def test_password_of_a_studys_storage_is_not_shown() -> None:
    from overtone.tracking.address import public_uri
    from overtone.tuning import plan

    secret = "postgresql://someone:a-secret@db.example/studies?password=b"
    assert public_uri(secret) == "postgresql://db.example/studies"
    with pytest.raises(OvertoneError) as refused:
        plan.resolved("https://someone:a-secret@db.example/studies")
    assert "a-secret" not in str(refused.value)


# --- a server from outside ----------------------------------------------------------------------------------------------

CLOSED = b""


def talk(address: str, *pieces: bytes, seconds: float = 20.0) -> bytes:
    """What a server answers to bytes sent as they are, until it closes the connection."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        heard = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            while chunk := connection.recv(65_536):
                heard += chunk
        except (BrokenPipeError, ConnectionResetError):
            return heard
        return heard


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def request(method: str, path: str, *headers: str, body: bytes = b"", key: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *([f"X-API-Key: {KEY}"] if key else []), *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.slow
def test_real_server_seen_from_outside(make_model: ModelMaker, environment: dict[str, str], tmp_path: Path) -> None:
    """One process for all of it: starting one takes seconds."""
    folder = make_model()
    (folder.parent / "secret.txt").write_text("a-secret-file")
    arguments = ("--model", str(folder), "--max-megabytes", "1", "--read-seconds", "1.5")
    with started(tmp_path, environment | {"OVERTONE_API_KEY": KEY}, *arguments) as (address, process, log):
        paths_outside(address)
        requests_in_disguise(address)
        slow_and_endless(address)
        bombs(address)
        pages_from_elsewhere(address)
        what_errors_say(address, folder)
        assert process.poll() is None
        assert httpx.get(f"{address}/readyz", timeout=30).json() == {"status": "ready"}
    text = log.read_text()
    assert KEY not in text
    assert "Traceback" not in text


def paths_outside(address: str) -> None:
    for path in (
        *(
            "/page/../../secret.txt",
            "/page/%2e%2e/%2e%2e/pyproject.toml",
            "/page/..%2f..%2fapp.py",
            "/page//etc/passwd",
        ),
        *("/page/..%5c..%5capp.py", "/page/%00", "//etc/passwd", "/%2e%2e/etc/passwd", "/v1/jobs/..%2f..%2fjob.json"),
    ):
        answer = talk(address, request("GET", path, "Connection: close"))
        assert status(answer) in (400, 404, 405), (path, answer[:200])
        assert b"root:" not in answer and b"a-secret-file" not in answer and b"create_app" not in answer
    for model in ("../secret.txt", "/etc/passwd", "..", "a" * 500, "models:/x/1"):
        refused = httpx.post(f"{address}/v1/enhance", params={"model": model}, headers={"X-API-Key": KEY}, timeout=30)
        assert refused.status_code == 404, model


def requests_in_disguise(address: str) -> None:
    """What two servers in a row may read in two ways is read by this one in none."""
    hidden = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    post = ("POST", "/v1/enhance", "Connection: close")
    for headers in (
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5, 6",),
        ("Content-Length: +5",),
        ("Content-Length: -1",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: xchunked",),
        ("X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 5",),
    ):
        answer = talk(address, request(*post, *headers, body=hidden))
        assert answer.count(b"HTTP/1.1 ") <= 1, (headers, answer)
        assert b"overtone_requests_total" not in answer, headers
        assert answer == CLOSED or 400 <= status(answer) < 500, (headers, answer)
    for line in (
        b"GET /metrics\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
    ):
        answer = talk(address, line)
        assert answer == CLOSED or 400 <= status(answer) < 500, answer


def slow_and_endless(address: str) -> None:
    """A connection ends by itself: the client's reading of it would otherwise time out."""
    assert talk(address) == CLOSED, "a connection without a request"
    assert talk(address, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ") == CLOSED, "headers that never end"
    again = request("GET", "/healthz") + b"GET /healthz HTTP/1.1\r\nX-Slow: "
    assert talk(address, again).count(b"200 OK") == 1, "the second request of a connection"
    assert status(talk(address, request("POST", "/v1/enhance", "Content-Length: 500000", body=b"RIFF"))) == 408
    refused = talk(address, request("POST", "/v1/enhance", "Content-Length: 500000", body=b"RIFF", key=False))
    assert status(refused) == 401, "and its connection ends although its body never does"
    large = talk(address, b"GET /healthz HTTP/1.1\r\nX-Large: " + b"a" * 2_000_000)
    assert large == CLOSED or status(large) in (400, 431)
    many = talk(address, b"GET /healthz HTTP/1.1\r\n" + b"X-A: b\r\n" * 200_000)
    assert many == CLOSED or status(many) in (400, 431)
    trailers = b"1\r\na\r\n0\r\n" + b"X-A: b\r\n" * 200_000
    after = talk(address, request("POST", "/v1/enhance", "Transfer-Encoding: chunked", body=trailers))
    assert after == CLOSED or 400 <= status(after) < 500
    endless = talk(
        address, request("GET", "/healthz", "Transfer-Encoding: chunked"), *[b"ffff\r\n" + b"a" * 65_535 + b"\r\n"] * 60
    )
    assert endless == CLOSED or status(endless) == 200


def bombs(address: str) -> None:
    """A body is taken as it is: what is packed for the way stays packed. Audio that unpacks to hours: test_http.py."""
    import gzip

    packed = gzip.compress(audio.encode(np.zeros((1, 16_000), np.float32), 16_000))
    headers = {"X-API-Key": KEY, "Content-Encoding": "gzip"}
    assert httpx.post(f"{address}/v1/enhance", content=packed, headers=headers, timeout=30).status_code == 415
    head = 'Content-Disposition: form-data; name="file"; filename="../../a.wav"\r\n'
    for part in (head + "X-A: b\r\n" * 20_000, head * 5_000):
        body = f"--b\r\n{part}\r\nRIFF\r\n--b--\r\n"
        kind = {"X-API-Key": KEY, "Content-Type": "multipart/form-data; boundary=b"}
        assert httpx.post(f"{address}/v1/enhance", content=body, headers=kind, timeout=60).status_code in (
            400,
            415,
            422,
        )


def pages_from_elsewhere(address: str) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    own, other = {"X-API-Key": KEY}, {"Origin": "http://elsewhere.example"}
    for answer in (
        httpx.get(f"{address}/v1/models", headers=own, timeout=30),
        httpx.get(f"{address}/v1/models", headers=own | other, timeout=30),
        httpx.options(
            f"{address}/v1/enhance", headers=own | other | {"Access-Control-Request-Method": "POST"}, timeout=30
        ),
        httpx.get(f"{address}/nowhere", headers=own, timeout=30),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "server" not in answer.headers
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"{address.replace('http', 'ws')}/v1/live", additional_headers=own | other)


def what_errors_say(address: str, folder: Path) -> None:
    """Neither files nor addresses of the server's machine, nor its code."""
    own = {"X-API-Key": KEY}
    answers = [
        httpx.post(f"{address}/v1/enhance?model=nobody", headers=own, timeout=60),
        httpx.post(f"{address}/v1/enhance", headers=own, content=b"no audio", timeout=60),
        httpx.post(f"{address}/v1/enhance?rate=x", headers=own, timeout=60),
        httpx.get(f"{address}/nowhere", headers=own, timeout=60),
        httpx.put(f"{address}/v1/enhance", headers=own, timeout=60),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        assert list(answer.json()) == ["detail"]
        for internal in (str(folder), str(Path.home()), "Traceback", "sqlite", ".py", "0x"):
            assert internal not in answer.text, answer.text


# --- what is installed --------------------------------------------------------------------------------------------------


def locked() -> dict[str, str]:
    """Names and versions of the lock."""
    return {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==([^\s\\;]+)", LOCK.read_text(), re.M)
    }


def test_lock_pins_all_that_is_declared_by_digest() -> None:
    pins, project = locked(), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pending, seen = ["dev"], set[str]()
    wanted = [Requirement(line) for line in project["dependencies"]]
    while pending:
        seen.add(extra := pending.pop())
        for line in project["optional-dependencies"][extra]:
            one = Requirement(line)
            wanted += [one] if one.name != "overtone" else []
            pending += [name for name in one.extras - seen if one.name == "overtone"]
    for one in wanted:
        assert one.specifier.contains(pins.get(canonicalize_name(one.name), "")), f"{one}: run `make lock`"
    blocks = re.split(r"\n(?=\S)", LOCK.read_text().strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in LOCK.read_text(), "where packages come from is for pip's own configuration to say"


def test_licences_of_what_is_installed_are_allowed() -> None:
    script = ROOT / "requirements" / "licences.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "numpy" in done.stdout


def test_audit_finds_a_known_weakness_and_passes_with_a_reason(tmp_path: Path) -> None:
    """By an export of the database, without a network."""
    (tmp_path / "lock.txt").write_text("jinja2==3.1.0 \\\n    --hash=sha256:00\nother==1.0\n")
    entry = {
        "id": "PYSEC-0000-1", "aliases": ["CVE-0000-1"], "summary": "templates run code",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "Jinja2"},
                      "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.6"}]}]}],
    }  # fmt: skip
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv" / "PYSEC-0000-1.json").write_text(json.dumps(entry))
    reasons = tmp_path / "weaknesses.toml"
    reasons.write_text("")

    def audit() -> subprocess.CompletedProcess[str]:
        arguments = ["--lock", "lock.txt", "--osv", "osv", "--reasons", str(reasons)]
        command = [sys.executable, str(ROOT / "requirements" / "audit.py"), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (found := audit()).returncode == 1 and "jinja2 3.1.0: PYSEC-0000-1" in found.stdout
    reasons.write_text("[Jinja2]\nCVE-0000-1 = 'no template comes from outside'\n")
    assert audit().returncode == 0
    (tmp_path / "lock.txt").write_text("jinja2==3.1.6\n")
    reasons.write_text("")
    assert audit().returncode == 0


# --- the threat model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/reference/reliability.md"])
def test_every_promise_names_its_test(page: str) -> None:
    text = (ROOT / page).read_text()
    promises = re.findall(
        r"(?m)^- .*", text.partition("## Promises")[2].partition("## What is not promised")[0] or text
    )
    assert len(promises) > 20
    for promise in promises:
        named = re.findall(r"`((?:tests|bench)/[\w/]+\.py)(?:::(test_\w+))?`", promise)
        assert named, f"no test: {promise}"
        for file, test in named:
            tree = ast.parse((ROOT / file).read_text())
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert not test or test in functions, f"{file}::{test}"
