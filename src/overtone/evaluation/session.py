"""Several systems on the same pairs: reports, tables and the page."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from overtone.data.pairs import Pair
from overtone.evaluation import clips, page, report, shown, systems, table
from overtone.evaluation.judge import Enhancer, JudgeError, Progress, judge
from overtone.settings import EvaluateParams

Maker = Callable[[], Enhancer]
PAGE = "index.html"
# So many conditions have clips to listen to where none of the main ones is judged.
SHOWN = 4


def chosen(pairs: Sequence[Pair], conditions: Sequence[str]) -> list[Pair]:
    """The pairs of some conditions, of all where none is named.

    Raises:
        JudgeError: there is no such condition.
    """
    known = list(dict.fromkeys(pair.condition for pair in pairs))
    for name in conditions:
        if name not in known:
            raise JudgeError(f"--condition {name}: no such condition here; expected some of {', '.join(known)}")
    return [pair for pair in pairs if pair.condition in (conditions or known)]


def run(
    makers: Mapping[str, Maker | str],
    pairs: Sequence[Pair],
    folder: Path,
    params: EvaluateParams,
    out: Path,
    progress: Callable[[str], Progress] | None = None,
) -> str:
    """Judge systems and write their reports and the page; give the tables as Markdown.

    Args:
        makers: name -> what makes the system, or a command line (see `systems.Command` and `systems.FolderCommand`).
        pairs: what they are judged on.
        folder: what the pairs' paths are relative to.
        params: see `judge`.
        out: gets a report's folder for each system, and `index.html`.
        progress: gives what is called with the pairs done and all pairs of a system.

    Raises:
        JudgeError, PeerError: a system cannot be run.
    """
    test_set = report.fingerprint(pairs, folder)
    found: dict[str, Maker] = {}
    with tempfile.TemporaryDirectory(prefix="overtone-") as place:
        for name, maker in makers.items():
            if isinstance(maker, str):
                inputs = dict.fromkeys(folder / pair.input for pair in pairs)
                maker = systems.of_command(name, maker, inputs, Path(place) / name)
            found[name] = maker
            told = progress(name) if progress else None
            report.write(judge(name, maker, pairs, folder, params, out / name, told), test_set, out / name)
        loaded = [shown.load(name, out / name) for name in found]
        every = list(dict.fromkeys(pair.condition for pair in pairs))
        wanted = clips.worst(loaded, [name for name in every if name in params.visqol] or every[:SHOWN])
        cards = clips.cards(wanted, pairs, folder, {name: one for name, one in found.items() if name != "sinc"}, loaded)
        page.write(out / PAGE, loaded, cards)
    trees = {system.name: system.metrics for system in loaded}
    return f"{table.figures(trees)}\n\n{table.table(trees)}"
