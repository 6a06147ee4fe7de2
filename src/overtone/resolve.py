"""Which model a user means: a folder, an alias or version of the registry, a released model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from overtone import params
from overtone.errors import OvertoneError
from overtone.upsample import Runtime, Upsampler


def upsampler(model: str = "auto", device: str = "cpu", runtime: Runtime = "auto") -> tuple[Upsampler, str]:
    """The model that a user names, and its name; `auto` is replaced by what it stands for.

    Args:
        model: a folder; an alias or version of the registry; `released` or `released-cnn`; or `auto`, the registry's
            champion, and the released model where there is none.
        device, runtime: see `Upsampler.load`.

    Raises:
        OvertoneError: no such model, or one that cannot be used.
    """
    found, name = folder(model)
    return Upsampler.load(found, device, runtime), name


def folder(model: str = "auto") -> tuple[Path, str]:
    """The folder of the model that a user names, fetched if need be, and its name.

    Raises:
        OvertoneError: no such model.
    """
    from overtone.tracking import released

    if model == "auto":
        model = "champion" if _has_champion() else "released"
    # The project has a folder `released`, which is not what that name means.
    if Path(model).is_dir() and model not in released.NAMES:
        return Path(model), model
    return fetched(model), model


def fetched(reference: str) -> Path:
    """The folder of a registered or released model, fetched if it is not here yet.

    Args:
        reference: an alias, a version number, `released` or `released-cnn`.
    """
    from overtone.tracking import registry, released, store

    root = store.repository_root()
    if reference in released.NAMES:
        return released.fetch(reference, root)
    return registry.fetch(params.load().register_.name, reference, root / ".overtone" / "models")


def version(model: str = "auto") -> str:
    """What a name stands for now, fetching nothing: a version number, `released-rnn` or `released-cnn`, or a folder.

    Args:
        model: as `upsampler` takes it.

    Raises:
        OvertoneError: no such version or alias.
    """
    from overtone.tracking import released, store, versions

    if model == "auto":
        model = versions.CHAMPION if _has_champion() else "released"
    if model in released.NAMES:
        return f"released-{released.NAMES[model]}"
    if Path(model).is_dir():
        return model
    if not store.exists():
        raise OvertoneError(f"{model}: there is no registry here yet; `dvc repro` makes one")
    return str(versions.resolve(store.client(), params.load().register_.name, model).version)


@dataclass(frozen=True)
class Known:
    """A model that may be named: by its `reference`, its `version` or one of its `aliases`.

    Attributes:
        version: number in the registry, or a released model's name.
        model: `rnn` or `cnn`.
        scores: of the gate's metrics; none for a released model.
    """

    reference: str
    version: str
    aliases: tuple[str, ...]
    model: str
    scores: Mapping[str, float]


def known() -> list[Known]:
    """The registry's versions, the newest first, then the released models that the project has."""
    from overtone.tracking import registry, released, store, versions

    rows = registry.models(params.load().register_.name) if store.exists() else []
    found = [
        Known(
            versions.CHAMPION if versions.CHAMPION in row.aliases else str(row.version),
            str(row.version),
            row.aliases,
            row.model,
            row.scores,
        )
        for row in rows
    ]
    for name in released.present(store.repository_root()):
        kind = released.NAMES[name]
        found.append(Known(name, f"released-{kind}", (f"released-{kind}",), kind, {}))
    return found


def _has_champion() -> bool:
    from overtone.tracking import registry, store

    # Looking into a database that is not there would make one, which takes ten seconds.
    return store.exists() and registry.has_champion(params.load().register_.name)
