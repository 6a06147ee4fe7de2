"""Write docs/settings.md from the types of the settings and from params.yaml: `python docs/make_settings.py`.

With --check nothing is written; the exit status says whether the page describes the settings there are. Their values may
differ: anybody may change params.yaml.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union

import yaml
from pydantic.fields import FieldInfo

from overtone import settings as params
from overtone.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "settings.md"
INTRODUCTION = """\
# Settings

All settings are in `params.yaml`; this page is made from their types by `make docs`. An unknown key, a missing one or a
value out of range stops a command before it starts, and the message names the field.

Change a setting in the file, for one command with `--set` (`overtone stage train --model rnn --set train.extend.steps=100`),
or for one DVC experiment with `-S` (`dvc exp run -S train.extend.steps=100`). `dvc repro` re-runs the stages that a setting
belongs to and those after them.
"""


def comments() -> dict[str, str]:
    """The comment behind each key of params.yaml (dotted), empty where there is none."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (ROOT / "params.yaml").read_text().splitlines():
        match = re.match(r"( *)([\w]+):(.*)", line)
        if not match:
            continue
        indent = len(match[1])
        path = [part for part in path if part[0] < indent] + [(indent, match[2])]
        comment = re.search(r"\s#\s(.*)", match[3])
        found[".".join(name for _, name in path)] = comment[1].strip() if comment else ""
    return found


def described(annotation: Any, metadata: list[Any]) -> str:
    """A type in words, with its range."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return described(arguments[0], [*arguments[1].metadata] if isinstance(arguments[1], FieldInfo) else [])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(described(one, metadata) for one in arguments if one is not types.NoneType)
    if origin is tuple and len(arguments) == 2 and arguments[1] is not Ellipsis:
        return f"[lowest, highest], each {described(arguments[0], [])}"
    if origin is tuple:
        return f"list of {described(arguments[0], [])}"
    if origin is dict:
        return f"table of {described(arguments[1], [])} by {described(arguments[0], [])}"
    names = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Path: "path"}
    name = names.get(annotation, f"[{annotation.__name__}](#{annotation.__name__.lower()})")
    limits = list(bounds(metadata))
    return " ".join([name, *([", ".join(limits)] if limits else [])])


def bounds(metadata: list[Any]) -> Iterator[str]:
    for limit in metadata:
        for mark, words in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
            if (value := getattr(limit, mark, None)) is not None:
                yield f"{words} {value if isinstance(value, int) else format(value, 'g')}"


def section(model: type[Settings], prefix: str, values: dict[str, Any], notes: dict[str, str]) -> Iterator[str]:
    """A heading with the docstring, a table of the plain settings, then the sections below."""
    if prefix:
        yield f"## `{prefix}`\n\n{paragraph(model)}\n"
    rows: list[str] = []
    below: list[str] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}.{field.alias or name}".lstrip(".")
        value = values.get(field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            below += section(field.annotation, key, value or {}, notes)
        else:
            rows.append(row(key, described(field.annotation, field.metadata), released(value), notes.get(key, "")))
    if rows:
        yield "| setting | expects | as released | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    yield from below


def row(name: str, *cells: str) -> str:
    return f"| `{name}` | {' | '.join(text.replace('|', '/') for text in cells)} |"


def released(value: Any) -> str:
    """A value as params.yaml writes it; nothing for tables of tables."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return "" if any(isinstance(one, dict | list) for one in inner) else shown(value)


def shown(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return f"`{text.strip().removesuffix('...').strip()}`"


def paragraph(model: type[Settings]) -> str:
    return " ".join((model.__doc__ or "").split())


def parts(model: type[Settings]) -> str:
    """A type that lists and tables hold: its fields with their defaults."""
    rows = [
        row(
            name,
            described(field.annotation, field.metadata),
            "required" if field.is_required() else shown(field.default),
        )
        for name, field in model.model_fields.items()
    ]
    head = f"### {model.__name__}\n\n{paragraph(model)}\n\n| field | expects | default |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def page() -> str:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    steps = typing.get_args(typing.get_args(params.Step)[0])
    body = list(section(params.Params, "", values, comments()))
    dimensions = typing.get_args(typing.get_args(params.Dimension)[0])
    named = [params.Condition, *steps, params.Guard, *dimensions]
    return "\n".join([INTRODUCTION, *body, "## What lists and tables hold\n", *(parts(model) for model in named)])


def without_values(text: str) -> str:
    """The page without the column of values."""
    return re.sub(r"(?m)^(\| `[\w.]+` \| .*?) \| [^|]*( \| [^|]* \|)$", r"\1\2", text)


def main() -> None:
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.is_file() or without_values(PAGE.read_text()) != without_values(text):
        sys.exit("docs/settings.md: does not match src/overtone/settings/ and params.yaml; run `make docs`")


if __name__ == "__main__":
    main()
