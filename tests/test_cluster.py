"""Laws of Ray as an engine: the same results as without it, errors reach the caller, and a process's death is told."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from overtone import settings
from overtone.data import cluster, pairs, parallel

pytestmark = [pytest.mark.slow, pytest.mark.long]
pytest.importorskip("ray", reason="Ray is missing: pip install -e '.[ray]'")


DEADLY = "import os\n\n\ndef double(fatal, item):\n    return os._exit(1) if item == fatal else 2 * item\n"
Double = Callable[[int, int], int]


@pytest.fixture(scope="module")
def deadly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    """A Ray that the tests share, and a function that kills the process of its that calls it with a certain item."""
    import ray

    folder = tmp_path_factory.mktemp("code")
    (folder / "deadly.py").write_text(DEADLY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        with ExitStack() as stack:
            cluster._connect(ray, cluster.LOCAL, 2, stack)
            yield importlib.import_module("deadly").double


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nobody"])
def test_cluster_that_cannot_be_had_is_explained(address: str) -> None:
    with pytest.raises(cluster.ClusterError, match=f"Ray at {address}: "):
        parallel.run(divmod, 7, [1, 2], ray=address)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_degraded_pairs_are_the_same_bytes_on_ray(
    params: settings.Params, pairs_folder: Path, tmp_path: Path, deadly: Double
) -> None:
    corpus = pairs_folder.with_name("corpus")
    conditions = {name: params.degrade.conditions[name] for name in ("sinc_8k", "noise_10db")}
    few = params.degrade.model_copy(update={"conditions": conditions})
    pairs.build(few, 1, corpus, tmp_path / "here", workers=1)
    calls: list[tuple[int, int]] = []
    pairs.build(few, 1, corpus, tmp_path / "ray", lambda *share: calls.append(share), workers=2, ray="local")
    assert tree(tmp_path / "ray") == tree(tmp_path / "here")
    assert [done for done, _ in calls] == list(range(1, calls[0][1] + 1))


def test_item_whose_process_dies_is_told_and_all_others_are_done(deadly: Double) -> None:
    found = dict(cluster.results(deadly, 7, range(40), workers=2))
    assert found == {item: None if item == 7 else 2 * item for item in range(40)}


def test_error_of_an_item_is_the_callers(deadly: Double) -> None:
    with pytest.raises(ZeroDivisionError):
        parallel.run(divmod, 7, [1, 0, 2], ray="local")
