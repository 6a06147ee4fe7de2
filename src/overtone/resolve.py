"""Which model a user means: a folder, an alias or version of the registry, a released model."""

from __future__ import annotations

from pathlib import Path

from overtone import params
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


def _has_champion() -> bool:
    from overtone.tracking import registry, store

    # Looking into a database that is not there would make one, which takes ten seconds.
    return store.exists() and registry.has_champion(params.load().register_.name)
