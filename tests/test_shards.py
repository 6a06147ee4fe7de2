"""Laws of shards: they hold the clips as they are, and training from them is training from the corpus."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import services
from conftest import ROOT
from overtone.data import shards, sources
from overtone.data.corpus import Clip, CorpusError, read_manifest
from overtone.data.shards import INDEX, ShardsError
from overtone.data.sources import CorpusSource, ShardsSource
from services import BUCKET, ObjectStore
from test_training import train, weights

# Small enough for several shards of the made corpus.
SHARD_BYTES = 100_000


@pytest.fixture(scope="module")
def folder(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of the made corpus, in a folder."""
    out = tmp_path_factory.mktemp("shards")
    shards.write(corpus_folder, str(out), SHARD_BYTES, workers=1)
    return out


def shards_at(source: str | Path) -> ShardsSource:
    found = sources.recognise(source)
    assert isinstance(found, ShardsSource)
    return found


def clips_of(source: str | Path) -> list[Clip]:
    """Everything read once."""
    found = sources.recognise(source)
    return [clip for split in ("train", "valid") for clip, _ in found.clips(split)]


# --- the format ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "valid"])
def test_shards_hold_the_clips_as_they_are(folder: Path, corpus_folder: Path, split: shards.Split) -> None:
    assert len(shards_at(folder).index.shards) > 3
    ours, theirs = (list(source.clips(split)) for source in (shards_at(folder), CorpusSource(corpus_folder)))
    assert [clip for clip, _ in ours] == [clip for clip, _ in theirs]
    assert {clip.clip for clip, _ in ours} == {
        clip.clip for clip in read_manifest(corpus_folder) if clip.split == split
    }
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(ours, theirs, strict=True))


def test_test_split_is_in_no_shard(folder: Path, corpus_folder: Path) -> None:
    kept_out = {clip.clip for clip in read_manifest(corpus_folder) if clip.split == "test"}
    assert kept_out and not kept_out & {clip.clip for clip in clips_of(folder)}


def test_formats_own_library_reads_the_shards(folder: Path, corpus_folder: Path) -> None:
    from webdataset.compat import WebDataset

    paths = sorted(str(path) for path in folder.glob("train-*.tar"))
    seen = {json.loads(sample["json"])["path"]: sample["flac"] for sample in WebDataset(paths, shardshuffle=False)}
    wanted = [clip.path for clip in read_manifest(corpus_folder) if clip.split == "train"]
    assert seen == {path: (corpus_folder / path).read_bytes() for path in wanted}


def test_same_clips_give_the_same_bytes(folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus_folder, tmp_path / "copy")
    shards.write(tmp_path / "copy", str(tmp_path / "other"), SHARD_BYTES, workers=1)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()} == files


# --- writing ------------------------------------------------------------------------------------------------------------


def test_second_call_changes_nothing(corpus_folder: Path, tmp_path: Path) -> None:
    first = shards.write(corpus_folder, str(tmp_path), SHARD_BYTES, workers=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = shards.write(corpus_folder, str(tmp_path), SHARD_BYTES, workers=1)
    assert (first.changed, first.uploaded) == (True, len(first.index.shards))
    assert (second.changed, second.uploaded, second.index) == (False, 0, first.index)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_other_shards_are_replaced_on_request_only(corpus_folder: Path, tmp_path: Path) -> None:
    first = shards.write(corpus_folder, str(tmp_path), SHARD_BYTES, workers=1)
    (tmp_path / "notes.txt").write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ShardsError, match=rf"holds other shards \({first.index.digest[:12]}\); give --force"):
        shards.write(corpus_folder, str(tmp_path), 2 * SHARD_BYTES, workers=1)
    assert {path.name for path in tmp_path.iterdir()} == before
    second = shards.write(corpus_folder, str(tmp_path), 2 * SHARD_BYTES, force=True, workers=1)
    names = {shard.name for shard in second.index.shards}
    assert {path.name for path in tmp_path.iterdir()} == names | {INDEX, "notes.txt"}


def test_shard_that_is_gone_is_stored_again(corpus_folder: Path, tmp_path: Path) -> None:
    first = shards.write(corpus_folder, str(tmp_path), SHARD_BYTES, workers=1)
    (tmp_path / first.index.train[0].name).unlink()
    again = shards.write(corpus_folder, str(tmp_path), SHARD_BYTES, workers=1)
    assert (again.changed, again.uploaded) == (True, 1)
    assert clips_of(tmp_path)


def test_interrupted_writing_leaves_no_index_and_goes_on(corpus_folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write(corpus_folder, str(tmp_path), SHARD_BYTES, progress=stop, workers=1)
    with pytest.raises(CorpusError, match=INDEX):
        sources.recognise(tmp_path)
    made = shards.write(corpus_folder, str(tmp_path), SHARD_BYTES, workers=1)
    assert made.uploaded == len(made.index.shards) - 2


# --- training -----------------------------------------------------------------------------------------------------------


def test_training_from_shards_is_that_from_the_corpus(folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    prepared = f"train.data.prepared={tmp_path / 'prepared'}"
    train(tmp_path / "corpus", corpus_folder)
    from overtone.training import fit
    from test_training import small

    fit.train(
        small(corpus_folder, prepared),
        "rnn",
        folder.as_uri(),
        tmp_path / "url" / "model",
        tmp_path / "url" / "checkpoints",
    )
    assert weights(tmp_path / "url") == weights(tmp_path / "corpus")


# --- what goes wrong ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of the shards that may be spoilt."""
    shutil.copytree(folder, tmp_path / "own")
    return tmp_path / "own"


@pytest.mark.parametrize("remote", [False, True])
def test_damaged_shard_is_refused_by_name_and_mended_by_force(own: Path, corpus_folder: Path, remote: bool) -> None:
    source = own.as_uri() if remote else str(own)
    shard = shards_at(own).index.train[1]
    content = bytearray((own / shard.name).read_bytes())
    content[len(content) // 2] ^= 1
    (own / shard.name).write_bytes(content)
    with pytest.raises(ShardsError, match=rf"own/{shard.name}: damaged: .* the index names {shard.sha256}"):
        clips_of(source)
    shards.write(corpus_folder, str(own), SHARD_BYTES, force=True, workers=1)
    assert clips_of(source)


def test_missing_shard_is_named(own: Path) -> None:
    shard = shards_at(own).index.train[0]
    (own / shard.name).unlink()
    for source in (str(own), own.as_uri()):
        with pytest.raises(ShardsError, match=f"own/{shard.name}: no such file"):
            clips_of(source)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "not an index of shards"),
        ("[1", "not an index of shards"),
        ('{"version": 1}', "version 1; expected 2"),
    ],
)
def test_index_that_is_none_is_refused(own: Path, content: str, said: str) -> None:
    (own / INDEX).write_text(content)
    with pytest.raises(ShardsError, match=rf"own/{INDEX}: {said}"):
        sources.recognise(own)


def test_source_is_recognised_or_refused(folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    digest = shards_at(folder).index.digest
    assert isinstance(sources.recognise(corpus_folder), CorpusSource)
    assert isinstance(sources.recognise(f"{folder}@{digest[:8]}"), ShardsSource)
    with pytest.raises(ShardsError, match=f"its digest is {digest[:12]}; train.data.source wants 00ff00ff"):
        sources.recognise(f"{folder}@00ff00ff")
    with pytest.raises(CorpusError, match=r"manifest\.csv: no such file, nor shards\.json beside it"):
        sources.recognise(tmp_path)
    with pytest.raises(ShardsError, match=rf"no {INDEX}; expected what `overtone shards` writes"):
        sources.recognise(tmp_path.as_uri())
    with pytest.raises(ShardsError, match=r"gopher://x/y: cannot be reached: .*[Pp]rotocol"):
        sources.recognise("gopher://x/y")


def test_local_corpus_needs_nothing_of_what_shards_need(corpus_folder: Path) -> None:
    script = (
        "import sys; from overtone.data import sources;"
        f"next(sources.recognise({str(corpus_folder)!r}).clips('train'));"
        "print({'webdataset', 's3fs', 'fsspec', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("answers", ["never", "refused"])
def test_store_that_does_not_answer_is_given_up(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    monkeypatch.setattr(shards, "_ANSWER", 1)
    nobody = f"http://127.0.0.1:{services.free_port()}"
    endpoint = request.getfixturevalue("silent") if answers == "never" else nobody
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "somewhere"}
    refused = pytest.raises(ShardsError, match=r"s3://bucket/shards: cannot be reached: .*127\.0\.0\.1")
    for name, value in {**keys, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    with refused:
        sources.recognise("s3://bucket/shards")


# --- a real object store ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[ObjectStore]:
    try:
        with services.object_store(tmp_path_factory.mktemp("store"), environment) as made:
            yield made
    except services.Missing as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.services
def test_shards_of_an_object_store_are_those_of_a_folder(
    store: ObjectStore,
    project: Path,
    corpus_folder: Path,
    folder: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, index = f"s3://{BUCKET}/team/shards", shards_at(folder).index
    reach = {**store.environment, "AWS_ENDPOINT_URL": store.endpoint}
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "overtone", "shards", place, "--corpus", corpus_folder, "--shard-mb", "0.1"],
        cwd=project,
        env=environment | reach,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{place}: {len(index.shards)} shards written, digest {index.digest}" in done.stdout
    names = {name.rpartition("/")[2] for name in store.objects("team/")}
    assert names == {INDEX, *(shard.name for shard in index.shards)}
    for name, value in reach.items():
        monkeypatch.setenv(name, value)
    assert not shards.write(corpus_folder, place, SHARD_BYTES, workers=1).changed
    assert clips_of(f"{place}@{index.digest[:12]}") == clips_of(folder)
    (damaged,) = (path for path in store.folder.rglob(index.valid[0].name))
    damaged.write_bytes(b"x" * index.valid[0].bytes)
    with pytest.raises(ShardsError, match=rf"{place}/{index.valid[0].name}: damaged"):
        clips_of(place)
    shards.write(corpus_folder, place, SHARD_BYTES, force=True, workers=1)
    assert clips_of(place) == clips_of(folder)
