"""Which model a user means: a folder, an alias or version of the registry, a released model."""

from __future__ import annotations

from pathlib import Path

from overtone import extras, params, released
from overtone.upsample import Runtime, Upsampler

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
        from overtone.tracking import registry

        return registry.fetch(_registered_name(), reference, root / ".overtone" / "models")


def _has_champion() -> bool:
    from overtone.tracking import store

    # Looking into a database that is not there would make one, which takes ten seconds.
    if not store.exists():
        return False
    with extras.needed("the model registry, which may hold a champion (`--model released` does without),"):
        from overtone.tracking import registry

        return registry.has_champion(_registered_name())


def _registered_name() -> str:
    """As the settings of the folder say; outside a project there are none."""
    return params.load().register_.name if Path("params.yaml").exists() else NAME
