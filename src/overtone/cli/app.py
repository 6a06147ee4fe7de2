"""The application that the other files of this package add their commands to, and what several of them share."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

# The status of Unix tools whose reader has left, by the signal that ends them.
READER_LEFT = 128 + 13


# As people look for them.
GROUPS = {
    "Recordings and models": ("enhance", "profile", "inspect", "compare", "serve", "live", "models"),
    "The pipeline": ("init", "stage", "tune", "evaluate", "summary", "ui", "shards"),
    "Maintenance": (
        *("fetch", "export", "promote", "rollback", "lineage", "reproduce", "repair"),
        *("sync", "verify", "failure"),
    ),
}


class Commands(TyperGroup):
    """Commands in groups, which end without a word when nobody reads what they write any more."""

    def list_commands(self, ctx: Any) -> list[str]:
        grouped = [name for names in GROUPS.values() for name in names]
        return sorted(super().list_commands(ctx), key=lambda name: grouped.index(name) if name in grouped else 99)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command: Any = super().get_command(ctx, cmd_name)
        if command is not None:
            command.rich_help_panel = next((group for group, names in GROUPS.items() if cmd_name in names), None)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(READER_LEFT) from None


app = typer.Typer(
    cls=Commands,
    help="Audio super-resolution: narrow-band, codec-crushed or noisy audio in, full-band 48 kHz audio out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: dotted.key=value. Repeatable.")]


def family(name: str) -> str:
    """A family's name that is known."""
    from overtone.settings import FAMILIES

    if name not in FAMILIES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FAMILIES)}.")
    return name


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what it began is cleared away. Outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], figures: Literal["left", "right"] = "left"
) -> None:
    """A table as wide as the terminal; `figures` is where all columns but the first are aligned to."""
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    columns = (Column(head, justify=figures if place else "left") for place, head in enumerate(heads))
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def known_models(incomplete: str) -> list[str]:
    """What the shell offers for a model's name that is being typed; no registry is asked, which takes seconds."""
    names = ["auto", "champion", "challenger", "released", "released-rnn"]
    folders = sorted(str(path.parent) for path in Path("models").glob("*/config.json"))
    return [name for name in (*names, *folders) if name.startswith(incomplete)]


Kind = Annotated[str, typer.Option("--model", callback=family, help="Which family of networks, such as rnn.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs in place of text.")]

Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(envvar="OVERTONE_ENGINE", help="local: processes of this machine. ray: Ray, on this machine's cores."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        envvar="OVERTONE_RAY_ADDRESS",
        help="With --engine ray: a cluster, as host:port, or auto for the one that this machine belongs to.",
    ),
]
