"""Settings read from `params.yaml`, changed in memory, and written back with the comments kept."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, MutableMapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from overtone.settings import keys
from overtone.settings.base import ParamsError, Settings
from overtone.settings.schema import Params

# The most columns of a line that is written; longer lists would be wrapped.
_WIDTH = 10_000


def load(path: Path = Path("params.yaml"), overrides: tuple[str, ...] = ()) -> Params:
    """Read and check the settings.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value` texts, the value in YAML, applied over the file.

    Raises:
        ParamsError: no such file, not YAML, or a field that is missing, unknown or out of range.
    """
    try:
        tree = YAML(typ="safe").load(path.read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's root") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None
    except (YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date that does not exist, or bytes that are not text. RecursionError: endless nesting.
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{path}: expected a mapping of settings at the top level")
    for text in overrides:
        _override(tree, text)
    return _checked(tree, f"{path}: ")


def changed(params: Params, changes: Mapping[str, Any]) -> Params:
    """Settings with some replaced, by dotted key.

    Raises:
        ParamsError: a key that does not exist, or values that are out of range or do not go together.
    """
    tree = params.model_dump(mode="json", by_alias=True)
    for key, value in changes.items():
        keys.put(tree, key, value)
    return _checked(tree)


def edited(text: str, changes: Mapping[str, Any]) -> str:
    """The text of a settings file with some values replaced, by dotted key; comments and order stay.

    Raises:
        ParamsError: a key that does not exist.
    """
    if not changes:
        return text
    yaml = _round_trip()
    tree = yaml.load(text)
    for key, value in changes.items():
        keys.put(tree, key, _in_brackets(yaml, value))
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


def flatten(settings: Settings) -> dict[str, Any]:
    """The pipeline's settings as `dotted.key -> plain value`, for tracking; those of the search are not part of it."""
    tree = settings.model_dump(mode="json", by_alias=True, exclude={"tune"})
    return {key: value for key, value in keys.walk(tree) if not isinstance(value, dict) or not value}


def _override(tree: MutableMapping[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator:
        raise ParamsError(f"override {text!r}: expected dotted.key=value")
    try:
        keys.put(tree, key.strip(), YAML(typ="safe").load(value))
    except ParamsError as error:
        raise ParamsError(f"override {text!r}: {error}") from None
    except (YAMLError, ValueError, RecursionError):
        raise ParamsError(f"override {text!r}: expected a value in YAML, such as 2, text or [1, 2]") from None


def _checked(tree: dict[str, Any], prefix: str = "") -> Params:
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ParamsError("\n".join(f"{prefix}{line}" for line in map(_sentence, error.errors()))) from None


def _sentence(error: Any) -> str:
    key, message = ".".join(str(part) for part in error["loc"]), error["msg"]
    if error["type"] == "extra_forbidden":
        message = f"no such setting{keys.suggestion(key, _every_key())}"
    elif error["type"] == "missing":
        message = "missing; docs/reference/settings.md says what it is"
    return ": ".join(filter(None, (key, message)))


@functools.cache
def _every_key() -> dict[str, Any]:
    """The tree of all settings that exist, without their values."""

    def table(model: type[Settings]) -> dict[str, Any]:
        return {
            field.alias or name: table(field.annotation)
            if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
            else None
            for name, field in model.model_fields.items()
        }

    return table(Params)


def _round_trip() -> YAML:
    """Reads and writes `params.yaml` in its own style: lists indented, numbers without exponents, `null` spelled out."""
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    represent: Any = yaml.representer
    represent.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    represent.add_representer(
        float, lambda r, value: r.represent_scalar("tag:yaml.org,2002:float", format(Decimal(repr(value)), "f"))
    )
    return yaml


def _in_brackets(yaml: YAML, value: Any) -> Any:
    """A list as one that is written on one line."""
    if not isinstance(value, list | tuple):
        return value
    made: Any = yaml.seq(value)
    made.fa.set_flow_style()
    return made
