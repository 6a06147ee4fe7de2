"""What the benchmarks share: timing, the folders of the networks they judge, tables.

Heavy packages are imported where they are used: a benchmark of memory must not carry them itself.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from overtone.errors import OvertoneError


def start(main: Callable[[], None]) -> None:
    """Run a benchmark; errors that users can mend are one message and exit status 1."""
    try:
        main()
    except OvertoneError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows the docstring as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def seconds(call: Callable[[], object], runs: int) -> float:
    """Median time of a call; one more, before the others, is not counted."""
    times = []
    for _ in range(runs + 1):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def add_networks(options: argparse.ArgumentParser) -> None:
    """The options that say which networks are judged; `network_folders` takes their values."""
    options.add_argument(
        "models", nargs="*", type=Path, default=[Path("models/cnn"), Path("models/rnn")], help="model folders"
    )
    options.add_argument("--untrained", action="store_true", help="networks of params.yaml instead of model folders")
    options.add_argument("--set", action="append", default=[], help="dotted.key=value over params.yaml, if untrained")
    options.add_argument("--runtimes", nargs="+", choices=["torch", "onnx"], default=["torch", "onnx"])


def network_folders(
    models: list[Path], untrained: bool, overrides: list[str], runtimes: list[str], scratch: Path
) -> dict[str, Path]:
    """Copies of model folders in `scratch`, by name, with ONNX graphs if that runtime is wanted.

    Copies, since an export writes into its folder, and a benchmark must leave a trained model's as it is.

    Args:
        untrained: make networks of params.yaml instead, which cost the same as trained ones.
        overrides: of params.yaml.

    Raises:
        OvertoneError: a folder is missing or is not of a network that this code can load.
    """
    from overtone import settings
    from overtone.models import graphs
    from overtone.models.model import Model

    folders: dict[str, Path] = {}
    if untrained:
        params = settings.load(overrides=tuple(overrides))
        for family, bodies in (("cnn", params.train.cnn), ("rnn", params.train.rnn)):
            folders[family] = scratch / family
            Model.untrained(family, bodies, params.corpus.rate).save(folders[family])
    else:
        for number, model in enumerate(models):
            if not model.is_dir():
                raise OvertoneError(f"{model}: no such folder; train it (dvc repro) or give --untrained")
            folders[str(model)] = scratch / str(number)
            shutil.copytree(model, folders[str(model)])
    for folder in folders.values() if "onnx" in runtimes else ():
        graphs.export(folder)
    return folders


class Table:
    """Rows printed as they are measured.

    Args:
        columns: heading -> format of its values; a format such as `<16` is that of a column of text.
    """

    def __init__(self, columns: dict[str, str]) -> None:
        self._columns = columns
        self._print(columns, {heading: spec if spec.startswith("<") else "" for heading, spec in columns.items()})

    def row(self, *values: object) -> None:
        """Print one value a column; None is a dash."""
        self._print(values, self._columns)

    def _print(self, values: Iterable[object], formats: dict[str, str]) -> None:
        cells = []
        for value, (heading, spec) in zip(values, formats.items(), strict=True):
            text = "-" if value is None else format(value, spec)
            cells.append(format(text, self._columns[heading]) if spec.startswith("<") else f"{text:>{len(heading)}}")
        print("  ".join(cells), flush=True)
