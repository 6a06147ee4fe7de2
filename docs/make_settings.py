"""Write docs/reference/settings.md from the types of the settings and the comments of params.yaml.

`python docs/make_settings.py` writes the page. With --check nothing is written; the exit status says whether the page
describes the settings there are.
"""

from __future__ import annotations

import itertools
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Union

import yaml
from pydantic.fields import FieldInfo

from overtone import settings as params
from overtone.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "settings.md"
# Keys, what they expect, and what they mean.
Item = tuple[list[str], str, str]
SIGNS = {"ge": "≥", "gt": ">", "lt": "<", "le": "≤"}
INTRODUCTION = """\
# Settings

`params.yaml` holds every setting with its present value. This page says what each one means and which values it takes;
`make docs` writes it from the types in `src/overtone/settings/`. An unknown key, a missing key or a value out of range
stops a command before it starts, and the message names the key.

Change a setting in the file, for one command (`overtone stage train --model rnn --set train.extend.steps=100`), or for
one DVC experiment (`dvc exp run -S train.extend.steps=100`). `dvc repro` then runs the stages that depend on the setting,
and those after them. A share is a number from 0 to 1, a range `[lowest, highest]`.
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
    if origin in (Union, types.UnionType) and {bool, int, float, str} <= {*arguments}:
        return "value"
    if origin in (Union, types.UnionType):
        return " or ".join(described(one, metadata) for one in arguments if one is not types.NoneType)
    if origin is tuple and len(arguments) == 2 and arguments[1] is not Ellipsis:
        return "range" if arguments[0] is float else "integer range"
    if origin is tuple:
        return f"list of {described(arguments[0], [])}"
    if origin is dict:
        return f"table of {described(arguments[1], [])}"
    names = {int: "integer", float: "number", str: "text", bool: "boolean", Path: "path"}
    name = names.get(annotation, f"[{annotation.__name__}](#{annotation.__name__.lower()})")
    return bounded(name, metadata)


def bounded(name: str, metadata: list[Any]) -> str:
    """A kind of number with its limits."""
    limits = {mark: getattr(one, mark) for one in metadata for mark in SIGNS if hasattr(one, mark)}
    if limits in ({"gt": 0}, {"ge": 0}):
        return f"{'positive' if 'gt' in limits else 'non-negative'} {name}"
    if limits == {"ge": 0, "le": 1}:
        return "share"
    if limits.keys() == {"ge", "le"}:
        return f"{name} {limits['ge']:g} to {limits['le']:g}"
    written = {mark: limit if isinstance(limit, int) else f"{limit:g}" for mark, limit in limits.items()}
    return f"{name} {', '.join(f'{sign} {written[mark]}' for mark, sign in SIGNS.items() if mark in written)}".rstrip()


def section(model: type[Settings], prefixes: list[str], notes: dict[str, str]) -> Iterator[str]:
    """A heading with the docstring, a list of the plain settings, then the sections below.

    Args:
        prefixes: the places of this type in params.yaml; the two networks of a family share one section.
    """
    meanings = attributes(model)
    items: list[Item] = []
    below: dict[type[Settings], list[str]] = {}
    for name, field in model.model_fields.items():
        keys = [f"{prefix}.{field.alias or name}".lstrip(".") for prefix in prefixes or [""]]
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            below.setdefault(field.annotation, []).extend(keys)
        else:
            meaning = meanings.get(name) or notes.get(keys[0], "")
            items.append((keys, described(field.annotation, field.metadata), meaning))
    if items and prefixes:
        yield f"## {quoted(prefixes)}\n\n{paragraph(model)}\n"
    if items:
        yield listed(items)
    for inner, keys in below.items():
        yield from section(inner, keys, notes)


def quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def listed(items: Iterable[Item]) -> str:
    """A list in Markdown; neighbours of one type, without a meaning of their own, share a line."""
    lines = ""
    for (expected, meaning), alike in itertools.groupby(items, key=lambda one: one[1:]):
        names = quoted([name for one in alike for name in one[0]])
        lines += f"- {names} ({expected}){': ' if meaning else ''}{meaning}\n"
    return lines


def paragraph(model: type[Settings]) -> str:
    """What a docstring says before its list of attributes."""
    return " ".join((model.__doc__ or "").partition("Attributes:")[0].split())


def attributes(model: type[Settings]) -> dict[str, str]:
    """What a docstring says of each attribute."""
    listed = textwrap.dedent((model.__doc__ or "").partition("Attributes:\n")[2])
    return {name: " ".join(text.split()).rstrip(".") for name, text in re.findall(r"(?m)^(\w+): ((?:.|\n +)*)", listed)}


def part(model: type[Settings]) -> str:
    """A type that lists and tables hold: its fields with their defaults."""
    items: list[Item] = []
    for name, field in model.model_fields.items():
        # A type is recognised by its `op`.
        default = "" if field.is_required() or name == "op" else f"; default {shown(field.default)}"
        items.append(([name], described(field.annotation, field.metadata) + default, ""))
    return f"### {model.__name__}\n\n{paragraph(model)}\n\n{listed(items)}"


def shown(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return f"`{text.strip().removesuffix('...').strip()}`"


def page() -> str:
    steps = typing.get_args(typing.get_args(params.Step)[0])
    dimensions = typing.get_args(typing.get_args(params.Dimension)[0])
    named = [params.Condition, *steps, params.Guard, *dimensions]
    body = section(params.Params, [], comments())
    return "\n".join(
        [INTRODUCTION, *body, "## Types\n\nFields without a default are required.\n", *(part(model) for model in named)]
    )


def main() -> None:
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.is_file() or PAGE.read_text() != text:
        sys.exit("docs/reference/settings.md: does not match src/overtone/settings/ and params.yaml; run `make docs`")


if __name__ == "__main__":
    main()
