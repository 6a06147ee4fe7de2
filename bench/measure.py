"""What the benchmarks share: timing, the folders of the networks they judge, tables and charts.

Heavy packages are imported where they are used: a benchmark of memory or of imports must not carry them itself.
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

# name -> (x, y) along the line
Lines = dict[str, list[tuple[float, float]]]

# Okabe and Ito's colours without the yellow, which is lost on white; markers tell the lines apart without colour.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"


def start(main: Callable[[], None]) -> None:
    """Run a benchmark; errors that users can mend are one message and exit status 1."""
    try:
        main()
    except OvertoneError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows the docstring as it is written, with the option `--chart`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--chart", type=Path, metavar="FILE", help="PNG file to draw the growth of cost into")
    return made


def seconds(call: Callable[[], object], runs: int) -> float:
    """Median time of a call; one more, before the others, is not counted."""
    times = []
    for _ in range(runs + 1):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


# --- networks ---------------------------------------------------------------------------------------------------------


def add_networks(options: argparse.ArgumentParser) -> None:
    """The options that say which networks are judged; `network_folders` takes what they give."""
    options.add_argument(
        "models", nargs="*", type=Path, default=[Path("models/cnn"), Path("models/rnn")], help="model folders"
    )
    options.add_argument("--untrained", action="store_true", help="networks of params.yaml instead of model folders")
    options.add_argument("--set", action="append", default=[], help="dotted.key=value over params.yaml, if untrained")
    options.add_argument("--runtimes", nargs="+", choices=["torch", "onnx"], default=["torch", "onnx"])


def network_folders(
    models: list[Path], untrained: bool, overrides: list[str], runtimes: list[str], scratch: Path
) -> dict[str, Path]:
    """Copies of model folders in `scratch`, by name, with an ONNX graph each if that runtime is wanted.

    Copies, since an export writes into its folder, and a benchmark must leave a trained model's as it is.

    Args:
        untrained: make networks of params.yaml instead, which cost the same as trained ones.
        overrides: of params.yaml.

    Raises:
        OvertoneError: a folder is missing or is not of a network that this code can load.
    """
    import torch

    from overtone import settings as params
    from overtone.models import build, export

    folders: dict[str, Path] = {}
    if untrained:
        settings = params.load(overrides=tuple(overrides))
        torch.manual_seed(settings.seed)
        families: dict[build.Kind, params.CnnParams | params.RnnParams] = {
            "cnn": settings.train.cnn,
            "rnn": settings.train.rnn,
        }
        for kind, family in families.items():
            folders[kind] = scratch / kind
            build.save(build.network(family, settings.corpus.rate), folders[kind], kind, family)
    else:
        for i, model in enumerate(models):
            if not model.is_dir():
                raise OvertoneError(f"{model}: no such folder; train it (dvc repro) or give --untrained")
            folders[str(model)] = scratch / str(i)
            shutil.copytree(model, folders[str(model)])
    for name, folder in folders.items():
        try:
            network, _ = build.load(folder)
        except build.ModelError as error:
            reason = str(error).replace(str(folder), name)
            raise OvertoneError(f"{reason}\ntrain it again (dvc repro) or give --untrained") from None
        if "onnx" in runtimes:
            export.export(network, folder)
    return folders


# --- results ----------------------------------------------------------------------------------------------------------


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


def chart(
    path: Path | None, panels: dict[str, Lines], *, title: str, x: str, y: str, log_y: bool = True, note: str = ""
) -> None:
    """Draw lines side by side in panels of one scale, the x axis logarithmic.

    Args:
        path: PNG file; None draws nothing.
        panels: heading -> lines.
        x, y: what the axes say.
        log_y: else the y axis starts at 0, as it must where a share of the height is to be read.
        note: a line in small print below.
    """
    if path is None:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from overtone.audio import replacing

    figure = Figure(figsize=(4.4 * len(panels) + 2.4 * (len(panels) == 1), 4.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (heading, lines) in zip(axes, panels.items(), strict=True):
        for i, (name, points) in enumerate(lines.items()):
            places, heights = zip(*points, strict=True)
            colour, marker = _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]
            style = ("-", "--", ":")[i // len(_COLOURS) % 3]
            look = {"color": colour, "marker": marker, "linestyle": style, "markersize": 5, "linewidth": 1.6}
            axis.plot(places, heights, label=name, **look)
        axis.set_xscale("log")
        ticks = sorted({place for points in lines.values() for place, _ in points})
        axis.set_xticks(ticks, [f"{place:g}" for place in ticks])
        axis.set_xticks([], minor=True)
        if log_y:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0.0)
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel(x)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel(y)
    figure.suptitle(title, fontsize=11)
    if note:
        figure.supxlabel(note, fontsize=8, color="#555555")
    with replacing(path) as temporary:
        # Without the library's version in its head the file depends on the picture alone.
        figure.savefig(temporary, format="png", metadata={"Software": None})
    print(f"{path}: the chart")
