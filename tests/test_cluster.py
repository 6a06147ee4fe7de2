"""Laws of Ray as an engine: the same results as without it, errors reach the caller, and a process's death is told."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from overtone import params as settings
from overtone.data import cluster, pairs, parallel

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="Ray is missing: pip install -e '.[ray]'")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_degraded_pairs_are_the_same_bytes_on_ray(params: settings.Params, pairs_folder: Path, tmp_path: Path) -> None:
    corpus = pairs_folder.with_name("corpus")
    conditions = {name: params.degrade.conditions[name] for name in ("sinc_8k", "noise_10db")}
    few = params.degrade.model_copy(
        update={"views": 2, "conditions": conditions, "valid_conditions": tuple(conditions)}
    )
    pairs.build(few, 1, corpus, tmp_path / "here", workers=1)
    told: list[tuple[int, int]] = []
    pairs.build(few, 1, corpus, tmp_path / "ray", lambda *share: told.append(share), workers=2, ray="local")
    assert tree(tmp_path / "ray") == tree(tmp_path / "here")
    assert [done for done, _ in told] == list(range(1, told[0][1] + 1))


def test_unreachable_cluster_is_explained() -> None:
    with pytest.raises(cluster.ClusterError, match="cannot be reached"):
        parallel.run(divmod, 7, [1, 2], ray="127.0.0.1:1")


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], int]:
    """A function that Ray's processes can import, and that kills the one in which it is called with a certain item."""
    code = "import os\n\n\ndef double(fatal, item):\n    return os._exit(1) if item == fatal else 2 * item\n"
    (tmp_path / "deadly.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    double: Callable[[int, int], int] = importlib.import_module("deadly").double
    return double


def test_item_whose_process_dies_is_told_and_all_others_are_done(deadly: Callable[[int, int], int]) -> None:
    found = dict(cluster.results(deadly, 7, range(40), workers=2))
    assert found == {item: None if item == 7 else 2 * item for item in range(40)}
    with pytest.raises(cluster.ClusterError, match="the process at work on 7 died"):
        parallel.run(deadly, 7, [7], ray="local")


def test_error_of_an_item_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        parallel.run(divmod, 7, [1, 0, 2], ray="local")
