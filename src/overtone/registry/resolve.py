"""Which model a user means: a folder, an alias or version of the registry, a released model."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from overtone import settings as params
from overtone.enhance.networks import Runtime
from overtone.enhance.upsampler import Upsampler
from overtone.errors import OvertoneError, needs_extra
from overtone.registry import released
from overtone.settings import project

# What models are registered as where no `params.yaml` says otherwise.
NAME = "overtone"
# What a profile in the registry may be called; anything else is a file.
PROFILE_NAME = re.compile(r"[\w-]+", re.ASCII)


def upsampler(model: str = "auto", device: str = "cpu", runtime: Runtime = "auto") -> tuple[Upsampler, str]:
    """The model that a user names, and its name; `auto` is replaced by what it stands for.

    Args:
        model: a folder; an alias or version of the registry; `released` or `released-rnn`; or `auto`, the registry's
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
    model = _meant(model)
    return named(model), model


def named(model: str) -> Path:
    """The folder of a model that is named; `auto` is no name.

    Raises:
        OvertoneError: no such model.
    """
    # The project has a folder `released`, which is not what that name means.
    return Path(model) if Path(model).is_dir() and model not in released.NAMES else fetched(model)


def fetched(reference: str) -> Path:
    """The folder of a registered or released model, fetched if it is not here yet.

    Where the registry's server is away, a version that was fetched before is used, and standard error says so.

    Args:
        reference: an alias, a version number, `released` or `released-rnn`.

    Raises:
        OvertoneError: no such model, or its digest is wrong; for the registry's, the extra `train` is missing too.
    """
    if reference in released.NAMES:
        return released.find(reference, project.home() or Path.cwd())
    with _looking_up(reference):
        from overtone.registry import fetch

        return fetch.fetch(registered_name(), reference, project.cache())


def version(model: str = "auto") -> str:
    """What a name stands for now, fetching nothing: a version number, `released-rnn` or `released-cnn`, or a folder.

    Args:
        model: as `upsampler` takes it.

    Raises:
        OvertoneError: no such version or alias.
    """
    model = _meant(model)
    if model in released.NAMES:
        return f"released-{released.NAMES[model]}"
    if Path(model).is_dir():
        return model
    with _looking_up(model):
        from overtone.registry import fetch, versions
        from overtone.tracking import store

        try:
            return str(versions.resolve(store.client(), registered_name(), model).version)
        except store.AwayError as error:
            if (known := fetch.version_before(registered_name(), model, project.cache())) is None:
                raise
            print(f"{error}; going on with version {known}, fetched before as {model}", file=sys.stderr)
            return known


def profile(given: Path) -> Path:
    """The file of a profile: the one that is named, or that which the registry keeps under this name.

    Raises:
        OvertoneError: there is a registry, and it keeps no such profile.
    """
    from overtone.tracking import store

    if given.exists() or not PROFILE_NAME.fullmatch(str(given)) or not store.exists():
        return given
    with needs_extra(f"the model registry, where the profile {str(given)!r} is looked up,"):
        from overtone.registry import profiles

        return profiles.find(registered_name(), str(given))


def keep_profile(name: str, path: Path) -> None:
    """Keep the file of a profile in the registry under a name.

    Raises:
        OvertoneError: the name is none, or there is no champion to keep it beside.
    """
    if not PROFILE_NAME.fullmatch(name):
        raise OvertoneError(f"profile {name!r}: expected a name of letters, digits, - and _")
    with needs_extra("the model registry, where profiles are kept,"):
        from overtone.registry import profiles

        profiles.keep(registered_name(), name, path)


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
        with needs_extra("the model registry"):
            from overtone.registry import registry

            rows = registry.models(registered_name())
        for row in rows:
            reference = "champion" if "champion" in row.aliases else str(row.version)
            found.append(Known(reference, str(row.version), row.aliases, row.model, row.scores))
    for name, kind in released.NAMES.items():
        version = f"released-{kind}"
        if all(one.version != version for one in found):
            aliases = tuple(other for other, same in released.NAMES.items() if same == kind and other != name)
            found.append(Known(name, version, aliases, kind, {}))
    return found


def _meant(model: str) -> str:
    """What `auto` stands for: the registry's champion, and the released model where there is none; other names as they are."""
    if model != "auto":
        return model
    from overtone.tracking import store

    # Looking into a database that is not there would make one, which takes ten seconds.
    if not store.exists():
        return "released"
    with needs_extra("the model registry, which may hold a champion (`--model released` does without),"):
        from overtone.registry import registry

        try:
            return "champion" if registry.has_champion(registered_name()) else "released"
        except store.AwayError:
            # The one that was fetched last, if there is one.
            return "champion"


@contextmanager
def _looking_up(model: str) -> Iterator[None]:
    """Within, a model is looked up in the registry.

    Raises:
        OvertoneError: there is no registry, or the extra `train` is missing.
    """
    from overtone.tracking import store

    if not store.exists():
        here = "; `dvc repro` makes one" if project.home() else f", and no project in {Path.cwd()}"
        raise OvertoneError(f"{model}: there is no registry here yet{here}")
    with needs_extra(f"the model registry, where {model!r} is looked up,"):
        yield


def registered_name() -> str:
    """What models are registered as: as the project's settings say; outside a project there are none."""
    home = project.source()
    return params.load(home / project.SETTINGS).register_.name if home else NAME
