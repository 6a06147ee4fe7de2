"""Which model a user means: a folder, an alias or version of the registry, a released model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from overtone import extras, params
from overtone.enhance.upsampler import Upsampler
from overtone.errors import OvertoneError
from overtone.models.model import Runtime
from overtone.registry import released

# What models are registered as where no `params.yaml` says otherwise.
NAME = "overtone"


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

    Raises:
        OvertoneError: no such model, or its digest is wrong; for the registry's, the extra `train` is missing too.
    """
    from overtone.tracking import store

    root = store.repository_root()
    if reference in released.NAMES:
        return released.find(reference, root)
    with extras.needed(f"the model registry, where {reference!r} is looked up,"):
        from overtone.registry import registry

        return registry.fetch(_registered_name(), reference, root / ".overtone" / "models")


def version(model: str = "auto") -> str:
    """What a name stands for now, fetching nothing: a version number, `released-rnn` or `released-cnn`, or a folder.

    Args:
        model: as `upsampler` takes it.

    Raises:
        OvertoneError: no such version or alias.
    """
    from overtone.tracking import store

    if model == "auto":
        model = "champion" if _has_champion() else "released"
    if model in released.NAMES:
        return f"released-{released.NAMES[model]}"
    if Path(model).is_dir():
        return model
    if not store.exists():
        raise OvertoneError(f"{model}: there is no registry here yet; `dvc repro` makes one")
    with extras.needed(f"the model registry, where {model!r} is looked up,"):
        from overtone.registry import versions

        return str(versions.resolve(store.client(), _registered_name(), model).version)


@dataclass(frozen=True)
class Known:
    """A model that may be named: by its `reference`, its `version` or one of its `aliases`.

    Attributes:
        version: number in the registry, or a released model's name.
        model: its family.
        scores: of the gate's metrics; none for a released model.
    """

    reference: str
    version: str
    aliases: tuple[str, ...]
    model: str
    scores: Mapping[str, float]


def known() -> list[Known]:
    """The registry's versions, the newest first, then the released models.

    Raises:
        OvertoneError: there is a registry, and the extra `train` is missing.
    """
    from overtone.tracking import store

    found: list[Known] = []
    if store.exists():
        with extras.needed("the model registry"):
            from overtone.registry import registry

            rows = registry.models(_registered_name())
        for row in rows:
            reference = "champion" if "champion" in row.aliases else str(row.version)
            found.append(Known(reference, str(row.version), row.aliases, row.model, row.scores))
    for name, kind in released.NAMES.items():
        version = f"released-{kind}"
        if all(one.version != version for one in found):
            aliases = tuple(other for other, same in released.NAMES.items() if same == kind and other != name)
            found.append(Known(name, version, aliases, kind, {}))
    return found


def _has_champion() -> bool:
    from overtone.tracking import store

    # Looking into a database that is not there would make one, which takes ten seconds.
    if not store.exists():
        return False
    with extras.needed("the model registry, which may hold a champion (`--model released` does without),"):
        from overtone.registry import registry

        return registry.has_champion(_registered_name())


def _registered_name() -> str:
    """As the settings of the folder say; outside a project there are none."""
    return params.load().register_.name if Path("params.yaml").exists() else NAME
