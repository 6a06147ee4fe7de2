"""Laws of shards: they hold the pairs as they are, and each is heard once an epoch, whoever reads, and after any stop."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

import services
from conftest import ROOT
from overtone import audio, stages
from overtone.data import objects, pairs, shards, sources
from overtone.data.cache import FOLDER, LIMIT
from overtone.data.crops import Crop, CropSampler, RandomCrops
from overtone.data.objects import ObjectsError
from overtone.data.pairs import PairsError, read_pairs, training_noise
from overtone.data.shards import INDEX, ShardsError
from overtone.data.sources import PairsSource, ShardsSource
from overtone.data.streaming import Numbering, ShardCrops, Shelf
from overtone.params import Params
from overtone.training import fit
from services import BUCKET, ObjectStore
from test_crops import same
from test_devices import Start, assert_same_curve, curve, start
from test_training import small, weights

__all__ = ["start"]

# Small enough for several shards of the made pairs.
SHARD_BYTES = 700_000


@pytest.fixture(scope="module")
def pairs_folder(pairs_folder: Path, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More pairs of the same clips than other tests have: fourteen for training."""
    conditions = {name: params.degrade.conditions[name] for name in ("sinc_8k", "noise_10db")}
    ranges = params.degrade.model_copy(
        update={"views": 7, "conditions": conditions, "valid_conditions": tuple(conditions)}
    )
    out = tmp_path_factory.mktemp("more") / "pairs"
    pairs.build(ranges, 1, pairs_folder.parent / "corpus", out, workers=1)
    return out


@pytest.fixture(scope="module")
def folder(pairs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of the made pairs, in a folder."""
    out = tmp_path_factory.mktemp("shards")
    shards.write(pairs_folder, str(out), SHARD_BYTES, workers=1)
    return out


@pytest.fixture
def url(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same by a URL, with a cache of its own."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    return folder.as_uri()


def shards_at(source: str | Path) -> ShardsSource:
    found = sources.recognise(source)
    assert isinstance(found, ShardsSource)
    return found


def crops_of(source: str | Path, *overrides: str) -> ShardCrops:
    crops = shards_at(source).training(small(*overrides))
    assert isinstance(crops, ShardCrops)
    return crops


@contextmanager
def reaching(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of an object store, and connections by them."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    objects._filesystem.cache_clear()
    try:
        yield
    finally:
        objects._filesystem.cache_clear()


def excerpts(source: str | Path) -> list[Crop]:
    valid = shards_at(source).validation(small())
    return [valid[index] for index in range(len(valid))]


def cached(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.glob("*.tar")}


# --- the format ---------------------------------------------------------------------------------------------------------


def test_shards_hold_the_pairs_sample_for_sample(folder: Path, pairs_folder: Path) -> None:
    crops = crops_of(folder)
    assert len(crops.shelf.shards) > 3
    found = {}
    for sample in range(len(crops.shelf)):
        stored = crops.shelf.pair(*crops.shelf.at(sample))
        found[stored.pair.pair] = stored
    wanted = read_pairs(pairs_folder, "train")
    assert sorted(found) == sorted(pair.pair for pair in wanted)
    for pair in wanted:
        stored = found[pair.pair]
        assert stored.pair == pair
        for which, path in (("input", pair.input), ("target", pair.target)):
            source = stored.find(which)
            assert isinstance(source, io.BytesIO)
            assert source.getvalue() == (pairs_folder / path).read_bytes()
            assert np.array_equal(audio.read(source)[0], audio.read(pairs_folder / path)[0])


def test_validation_and_noise_are_those_of_the_pairs(folder: Path, pairs_folder: Path) -> None:
    params = small()
    ours, theirs = excerpts(folder), PairsSource(pairs_folder).validation(params)
    assert len(ours) == len(theirs) > 0
    assert all(same(ours[index], theirs[index]) for index in range(len(theirs)))
    noises, kept = crops_of(folder).cutter.noises, training_noise(pairs_folder)
    assert len(noises) == len(kept) > 0
    assert all(np.array_equal(one, other) for one, other in zip(noises, kept, strict=True))
    assert np.array_equal(noises[-1], kept[len(kept) - 1])
    with pytest.raises(IndexError):
        noises[len(kept)]


def test_formats_own_library_reads_the_shards(folder: Path, pairs_folder: Path) -> None:
    from webdataset.compat import WebDataset

    paths = sorted(str(path) for path in folder.glob("train-*.tar"))
    seen = {}
    for sample in WebDataset(paths, shardshuffle=False):
        seen[json.loads(sample["json"])["pair"]] = sample["input.flac"], sample["target.flac"]
    wanted = read_pairs(pairs_folder, "train")
    assert seen == {p.pair: tuple((pairs_folder / path).read_bytes() for path in (p.input, p.target)) for p in wanted}


def test_same_pairs_give_the_same_bytes(folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(pairs_folder, tmp_path / "copy")
    shards.write(tmp_path / "copy", str(tmp_path / "other"), SHARD_BYTES, workers=1)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()} == files


def test_shelf_finds_samples_by_number(folder: Path) -> None:
    crops = crops_of(folder)
    places = [crops.shelf.at(number) for number in range(len(crops.shelf))]
    counts = [shard.samples for shard in crops.shelf.shards]
    assert places == [(shard, offset) for shard, count in enumerate(counts) for offset in range(count)]
    assert len(Shelf(crops.shelf.cache, ())) == 0


# --- writing ------------------------------------------------------------------------------------------------------------


def test_second_call_changes_nothing(pairs_folder: Path, tmp_path: Path) -> None:
    first = shards.write(pairs_folder, str(tmp_path), SHARD_BYTES, workers=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = shards.write(pairs_folder, str(tmp_path), SHARD_BYTES, workers=1)
    assert (first.changed, first.uploaded) == (True, len(first.index.shards))
    assert (second.changed, second.uploaded, second.index) == (False, 0, first.index)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_other_shards_are_replaced_on_request_only(pairs_folder: Path, tmp_path: Path) -> None:
    first = shards.write(pairs_folder, str(tmp_path), SHARD_BYTES, workers=1)
    (tmp_path / "notes.txt").write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ShardsError, match=rf"holds other shards \({first.index.digest[:12]}\); give --force"):
        shards.write(pairs_folder, str(tmp_path), 2 * SHARD_BYTES, workers=1)
    assert {path.name for path in tmp_path.iterdir()} == before
    second = shards.write(pairs_folder, str(tmp_path), 2 * SHARD_BYTES, force=True, workers=1)
    names = {shard.name for shard in second.index.shards}
    assert {path.name for path in tmp_path.iterdir()} == names | {INDEX, "notes.txt"}


def test_shard_that_is_gone_is_stored_again(pairs_folder: Path, tmp_path: Path) -> None:
    first = shards.write(pairs_folder, str(tmp_path), SHARD_BYTES, workers=1)
    (tmp_path / first.index.train[0].name).unlink()
    again = shards.write(pairs_folder, str(tmp_path), SHARD_BYTES, workers=1)
    assert (again.changed, again.uploaded) == (True, 1)
    assert len(crops_of(tmp_path).shelf.read(0, 0, "json")) > 0


def test_interrupted_writing_leaves_no_index_and_goes_on(pairs_folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write(pairs_folder, str(tmp_path), SHARD_BYTES, progress=stop, workers=1)
    with pytest.raises(PairsError, match=INDEX):
        sources.recognise(tmp_path)
    made = shards.write(pairs_folder, str(tmp_path), SHARD_BYTES, workers=1)
    assert made.uploaded == len(made.index.shards) - 2


# --- numbering ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "slots"), [([7, 5, 9], 4), ([1], 16), ([3, 1], 5), ([10] * 6, 4), ([2, 30, 1, 1], 7)]
)
def test_each_epoch_has_each_sample_once(counts: list[int], slots: int) -> None:
    total, numbering = sum(counts), Numbering(counts, 3, slots)
    everything = {(shard, offset) for shard, count in enumerate(counts) for offset in range(count)}
    orders = []
    for epoch in range(5):
        places = [numbering(number) for number in range(epoch * total, (epoch + 1) * total)]
        assert {place.epoch for place in places} == {epoch}
        assert len({(place.shard, place.offset) for place in places}) == total
        assert {(place.shard, place.offset) for place in places} == everything
        assert sorted(place.sample for place in places) == list(range(total))
        orders.append([place.sample for place in places])
    if total > 10:
        assert len({tuple(order) for order in orders}) == 5


def test_order_is_the_seeds_and_any_number_can_be_asked_for_first() -> None:
    one, other, third = (Numbering([20] * 9, seed, 8) for seed in (1, 1, 2))
    forward = [one(number) for number in range(500)]
    assert [other(number) for number in reversed(range(500))] == forward[::-1]
    assert [third(number) for number in range(500)] != forward


@pytest.mark.parametrize("world", [1, 2, 4])
def test_process_keeps_to_its_own_shards(world: int) -> None:
    """Each fetches its part of them, and one more at most on either side of each of its crops' stretches."""
    slots, count, total = 8, 64, 64 * 10
    numbering = Numbering([10] * count, 0, slots)
    for rank in range(world):
        mine = [numbering(number).shard for number in range(rank, total, world)]
        assert len(mine) == total // world
        assert len(set(mine)) <= count // world + 2 * slots // world
        # No more of them at a time than it has crops in a batch.
        share = slots // world
        for begin in range(0, len(mine), share):
            assert len(set(mine[begin : begin + share])) <= share


class Told(Dataset[tuple[int, float]]):
    """Which sample each number came to, and a sum that stands for the crop."""

    def __init__(self, crops: ShardCrops) -> None:
        self.crops = crops

    def __getitem__(self, number: int) -> tuple[int, float]:
        return self.crops.numbering(number).sample, float(self.crops[number]["input"].double().square().sum())


def heard(source: str | Path, world: int, rank: int, workers: int, epochs: range) -> list[tuple[int, float]]:
    """What a process hears of trainer's epochs of 9 batches of 4 crops."""
    batch = 4
    sampler = CropSampler(9 * batch, rank, world)
    # The processes of the loader outlive an epoch, as in training.
    loader = DataLoader(
        Told(crops_of(source)), batch // world, sampler=sampler, num_workers=workers, persistent_workers=workers > 0
    )
    found = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        for samples, sums in loader:
            found += list(zip(samples.tolist(), sums.tolist(), strict=True))
    return found


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 3), (2, 0), (2, 2), (4, 1)])
def test_processes_and_workers_together_hear_each_sample_once(folder: Path, world: int, workers: int) -> None:
    """However they share it out, the trainer's epochs ending in the midst of those of the data; and the same crops."""
    total = len(crops_of(folder).shelf)
    alone = heard(folder, 1, 0, 0, range(2))
    assert 36 % total != 0
    parts = [heard(folder, world, rank, workers, range(2)) for rank in range(world)]
    # Back in the order of their numbers.
    together = [one for row in zip(*parts, strict=True) for one in row]
    assert together == alone
    assert len({sample for sample, _ in together[:total]}) == total
    assert Counter(sample for sample, _ in together[: 2 * total]) == dict.fromkeys(range(total), 2)
    sums = dict(together[:total])
    assert any(sums[sample] != value for sample, value in together[total : 2 * total]), "another crop in another epoch"


def test_reading_goes_on_in_the_middle_of_an_epoch_on_other_processes(folder: Path) -> None:
    alone = heard(folder, 1, 0, 0, range(3))
    later = [heard(folder, 2, rank, 1, range(1, 3)) for rank in range(2)]
    assert 36 % len(crops_of(folder).shelf) != 0
    assert [one for row in zip(*later, strict=True) for one in row] == alone[36:]


def test_more_loader_processes_than_shards(pairs_folder: Path, tmp_path: Path) -> None:
    shards.write(pairs_folder, str(tmp_path), 10**9, workers=1)
    assert len(shards_at(tmp_path).index.train) == 1
    assert heard(tmp_path, 1, 0, 3, range(1)) == heard(tmp_path, 1, 0, 0, range(1))


# --- training -----------------------------------------------------------------------------------------------------------


class Heard(pl.Callback):
    """What each batch held, and the end of a training in the midst of it."""

    def __init__(self, stop: int | None = None) -> None:
        self.batches: list[list[float]] = []
        self.stop = stop

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Crop, index: int) -> None:
        if trainer.global_step == self.stop:
            raise Stopped
        self.batches.append(batch["input"].double().square().sum(dim=1).tolist())


class Stopped(Exception):
    pass


def train(out: Path, source: str | Path, *overrides: str, stop: int | None = None) -> list[list[float]]:
    callback = Heard(stop)
    params = small("train.fit.epoch_steps=5", "train.rnn.steps=20", *overrides)
    try:
        fit.train(params, "rnn", source, out / "model", out / "checkpoints", callbacks=(callback,))
    except Stopped:
        assert stop is not None
    return callback.batches


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[float]]]:
    out = tmp_path_factory.mktemp("undisturbed")
    return out, train(out, folder)


@pytest.mark.slow
def test_training_that_was_stopped_goes_on_with_what_it_had_not_seen(
    folder: Path, undisturbed: tuple[Path, list[list[float]]], tmp_path: Path
) -> None:
    """In the midst of an epoch of the data, and of one of the trainer; with other loader processes."""
    out, batches = undisturbed
    assert train(tmp_path, folder, stop=8) == batches[:8]
    assert 5 * 4 % len(crops_of(folder).shelf) != 0
    assert train(tmp_path, folder, "train.data.workers=2") == batches[5:]
    assert weights(tmp_path) == weights(out)


@pytest.mark.slow
def test_where_shards_are_changes_nothing(
    url: str, undisturbed: tuple[Path, list[list[float]]], tmp_path: Path
) -> None:
    out, batches = undisturbed
    assert train(tmp_path, url) == batches
    assert weights(tmp_path) == weights(out)
    assert cached(tmp_path / "cache")


def train_stage(source: str | Path, *overrides: str) -> None:
    stages.train(small(f"train.data.source={source}", *overrides), "rnn")


@pytest.mark.slow
@pytest.mark.long
def test_killed_process_ends_the_job_and_one_alone_goes_on_with_what_was_not_seen(
    start: Start, project: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(project / "work" / "pairs")
    job = start(f"train.data.source={folder}", "train.fit.devices=2")
    assert job.stdout is not None
    for text in job.stdout:
        if text.startswith("step 12/"):
            break
    workers = [child for child in psutil.Process(job.pid).children() if child.environ().get("RANK") == "1"]
    workers[0].send_signal(signal.SIGKILL)
    job.communicate(timeout=300)
    assert job.returncode == 1
    train_stage(folder, "train.data.workers=1")
    said = capfd.readouterr().out
    assert "resuming run" in said and "step 6/" not in said
    after = curve(project)
    train_stage(folder)
    assert "starting run" in capfd.readouterr().out
    assert_same_curve(after, curve(project))


@pytest.mark.slow
def test_run_says_which_shards_it_was_trained_with(project: Path, folder: Path) -> None:
    from overtone.tracking import store

    index = shards_at(folder).index
    train_stage(f"{folder}@{index.digest[:12]}", "train.rnn.steps=6")
    (run,) = store.client().search_runs(["1"])
    assert run.data.params["train.data.source"] == f"{folder}@{index.digest[:12]}"
    assert run.data.tags["shards_digest"] == index.digest
    assert run.inputs is not None
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.digest == index.digest[:36]
    assert json.loads(used.dataset.source)["tags"] == {"shards": str(folder), "sha256": index.digest}
    facts = json.loads((project / "models" / "rnn" / "run.json").read_text())
    assert (facts["shards"], facts["shards_digest"]) == (str(folder), index.digest)


# --- the cache ----------------------------------------------------------------------------------------------------------


def test_cache_holds_no_more_than_it_may(
    folder: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = shards_at(folder).index
    limit = sum(sorted(shard.bytes for shard in index.shards)[-2:])
    monkeypatch.setenv(LIMIT, str(limit / 1e9))
    with pytest.warns(UserWarning, match="fetched again and again"):
        crops = crops_of(url)
    plain, sizes = crops_of(folder), []
    for number in range(2 * len(crops.shelf)):
        assert same(crops[number], plain[number])
        sizes.append(sum(cached(tmp_path / "cache").values()))
    assert limit / 3 < max(sizes) <= limit


def test_shard_is_fetched_once(url: str, tmp_path: Path) -> None:
    first = crops_of(url)
    numbers = range(len(first.shelf))
    kept = [first[number] for number in numbers]
    before = {path: path.stat().st_ino for path in (tmp_path / "cache").glob("*.tar")}
    assert len(before) >= len(first.shelf.shards)
    again = crops_of(url)
    assert all(same(again[number], kept[number]) for number in numbers)
    assert {path: path.stat().st_ino for path in (tmp_path / "cache").glob("*.tar")} == before


def test_cache_without_room_for_a_shard_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "0.0001")
    with pytest.warns(UserWarning, match="fetched again"):
        crops = crops_of(url)
    with pytest.raises(ShardsError, match=rf"{LIMIT}: 0.0001; expected at least the [\d.e-]+ of a shard"):
        crops[0]
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(ShardsError, match=f"{LIMIT}: 'much'; expected"):
        crops_of(url)


# --- what goes wrong ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of the shards that may be spoilt."""
    shutil.copytree(folder, tmp_path / "own")
    return tmp_path / "own"


@pytest.mark.parametrize("remote", [False, True])
def test_damaged_shard_is_refused_by_name_and_mended_by_force(
    own: Path, pairs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    source = own.as_uri() if remote else str(own)
    shard = shards_at(own).index.train[1]
    content = bytearray((own / shard.name).read_bytes())
    content[len(content) // 2] ^= 1
    (own / shard.name).write_bytes(content)
    with pytest.raises(ShardsError, match=rf"own/{shard.name}: damaged: .* the index names {shard.sha256}"):
        [crops_of(source).shelf.pair(shard, 0) for shard in (0, 1)]
    assert len(cached(tmp_path / "cache")) == remote
    shards.write(pairs_folder, str(own), SHARD_BYTES, force=True, workers=1)
    assert crops_of(source).shelf.pair(1, 0)


def test_missing_shard_is_named(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    shard = shards_at(own).index.train[0]
    (own / shard.name).unlink()
    for source in (str(own), own.as_uri()):
        with pytest.raises(ObjectsError, match=f"own/{shard.name}: no such file"):
            crops_of(source).shelf.pair(0, 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "not an index of shards"),
        ("[1", "not an index of shards"),
        ('{"version": 2}', "version 2; expected 1"),
    ],
)
def test_index_that_is_none_is_refused(own: Path, content: str, said: str) -> None:
    (own / INDEX).write_text(content)
    with pytest.raises(ShardsError, match=rf"own/{INDEX}: {said}"):
        sources.recognise(own)


def test_source_is_recognised_or_refused(folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    digest = shards_at(folder).index.digest
    assert isinstance(sources.recognise(pairs_folder), PairsSource)
    assert isinstance(sources.recognise(f"{folder}@{digest[:8]}"), ShardsSource)
    with pytest.raises(ShardsError, match=f"its digest is {digest[:12]}; train.data.source wants 00ff00ff"):
        sources.recognise(f"{folder}@00ff00ff")
    with pytest.raises(PairsError, match=r"manifest\.csv: no such file, nor shards\.json beside it"):
        sources.recognise(tmp_path)
    with pytest.raises(ShardsError, match=rf"no {INDEX}; expected what `overtone shards` writes"):
        sources.recognise(tmp_path.as_uri())
    with pytest.raises(ObjectsError, match=r"gopher://x/y: cannot be reached: .*[Pp]rotocol"):
        sources.recognise("gopher://x/y")


def test_local_pairs_need_nothing_of_what_shards_need(pairs_folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from overtone.data import sources; from overtone import params;"
        f"made = sources.recognise({str(pairs_folder)!r});"
        f"made.training(params.load(Path({str(ROOT / 'params.yaml')!r})))[0];"
        "print({'webdataset', 's3fs', 'fsspec'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_local_source_draws_as_ever(pairs_folder: Path) -> None:
    assert isinstance(PairsSource(pairs_folder).training(small()), RandomCrops)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("answers", ["never", "refused"])
def test_store_that_does_not_answer_is_given_up(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    monkeypatch.setattr(objects, "_ANSWER", 1)
    nobody = f"http://127.0.0.1:{services.free_port()}"
    endpoint = request.getfixturevalue("silent") if answers == "never" else nobody
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "somewhere"}
    refused = pytest.raises(ObjectsError, match=r"s3://bucket/shards: cannot be reached: .*127\.0\.0\.1")
    with reaching(monkeypatch, {**keys, "AWS_ENDPOINT_URL": endpoint}), refused:
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
def test_training_from_an_object_store_is_that_from_a_folder(
    store: ObjectStore,
    project: Path,
    pairs_folder: Path,
    folder: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, index = f"s3://{BUCKET}/team/shards", shards_at(folder).index
    reach = {**store.environment, "AWS_ENDPOINT_URL": store.endpoint, FOLDER: str(project / "cache")}
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "overtone", "shards", place, "--pairs", pairs_folder, "--shard-mb", "0.7"],
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
    with reaching(monkeypatch, reach):
        assert not shards.write(pairs_folder, place, SHARD_BYTES, workers=1).changed
        # Connections were made in this process, and do not survive the fork of the loader's.
        train_stage(f"{place}@{index.digest[:12]}", "train.data.workers=2")
        facts: dict[str, Any] = json.loads((project / "models" / "rnn" / "run.json").read_text())
        assert (facts["shards"], facts["shards_digest"]) == (place, index.digest)
        assert len(cached(project / "cache")) > 3
        from_store = curve(project)
        train_stage(folder)
        assert from_store.equals(curve(project))
        shutil.rmtree(project / "cache")
        (damaged,) = (path for path in store.folder.rglob(index.valid[0].name))
        damaged.write_bytes(b"x" * index.valid[0].bytes)
        with pytest.raises(ShardsError, match=rf"{place}/{index.valid[0].name}: damaged"):
            excerpts(place)
        shards.write(pairs_folder, place, SHARD_BYTES, force=True, workers=1)
        assert len(excerpts(place)) == sum(shard.samples for shard in index.valid)
