"""Dotted keys: the one way to replace a setting in a tree of tables."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, MutableMapping
from typing import Any

from overtone.settings.base import ParamsError


def put(tree: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Replace the setting `key`, such as `train.fit.patience`, in a tree of settings.

    Raises:
        ParamsError: there is no such setting; the message names the one that was most likely meant.
    """
    *parents, leaf = key.split(".")
    table: Any = tree
    for part in parents:
        table = table.get(part) if isinstance(table, MutableMapping) else None
    if not isinstance(table, MutableMapping) or leaf not in table:
        raise ParamsError(f"params.yaml has no setting {key!r}{suggestion(key, tree)}")
    table[leaf] = list(value) if isinstance(value, tuple) else value


def walk(tree: MutableMapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of a tree with their values; those of a table follow the table's own."""
    for name, value in tree.items():
        yield f"{prefix}{name}", value
        if isinstance(value, MutableMapping):
            yield from walk(value, f"{prefix}{name}.")


def suggestion(key: str, tree: MutableMapping[str, Any]) -> str:
    """What was most likely meant by an unknown key, as the end of a sentence; empty where nothing is like it."""
    table, _, name = key.rpartition(".")
    known = [other for other, _ in walk(tree)]
    same = sorted(other for other in known if other.rpartition(".")[2] == name and other != key)
    beside = [other for other in known if other.rpartition(".")[0] == table and other != key]
    near = same[:3] or difflib.get_close_matches(key, beside, n=1)
    return f"; did you mean {' or '.join(near)}?" if near else ""
