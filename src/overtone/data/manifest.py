"""Tables of a stage's output: one CSV row for each dataclass instance, its columns the fields."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from overtone.errors import OvertoneError

Row = TypeVar("Row")

# Field types as they are written in the row classes; everything else is text.
_NUMBERS = {"int": int, "float": float}


def write(path: Path, row_type: type[Any], rows: Iterable[Any]) -> None:
    """Write instances of `row_type`, in order."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(row_type)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read(path: Path, row_type: type[Row], stage: str, error: type[OvertoneError]) -> list[Row]:
    """The rows that `write` wrote.

    Args:
        stage: whose output the file is, for the error's message.
        error: raised if there is no such file, or one with other columns.
    """
    if not path.is_file():
        raise error(f"{path}: no such file; expected the output of stage `{stage}`")
    columns = {field.name: _NUMBERS.get(str(field.type), str) for field in fields(cast("Any", row_type))}
    # Names of files may be no UTF-8.
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            if reader.fieldnames != list(columns):
                raise error(f"{path}: expected the columns {','.join(columns)}")
            return [row_type(**_converted(row, columns)) for row in reader]
        except (csv.Error, ValueError) as reason:
            if isinstance(reason, error):
                raise
            raise error(
                f"{path}: line {reader.line_num}: {reason}; expected a row as stage `{stage}` writes it"
            ) from None


def _converted(row: Mapping[str | None, Any], columns: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ValueError("not as many values as columns")
    return {name: kind(row[name]) for name, kind in columns.items()}
