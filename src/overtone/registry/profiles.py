"""Profiles of recording chains that the registry keeps beside its models, so that a team enhances by their names.

A profile lies among the artifacts of the champion's run; the registered model's tag `profile.NAME` says where, with its
SHA-256. It serves any version, later ones too.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from overtone.audio import replacing
from overtone.registry import versions
from overtone.registry.versions import RegistryError
from overtone.settings import project
from overtone.tracking import store

_TAG = "profile."


def keep(model: str, name: str, path: Path) -> None:
    """Keep the file of a profile under a name, in place of an earlier one of this name; see `resolve.keep_profile`.

    Raises:
        RegistryError: there is no champion to keep it beside.
    """
    client = store.client()
    run_id = str(versions.resolve(client, model, versions.CHAMPION).run_id)
    content = path.read_text()
    place = f"profiles/{name}.json"
    client.log_text(run_id, content, place)
    digest = hashlib.sha256(content.encode()).hexdigest()
    client.set_registered_model_tag(model, f"{_TAG}{name}", f"{run_id}/{place} {digest}")


def find(model: str, name: str) -> Path:
    """The file of a profile that is kept beside a registered model under a name; see `resolve.profile`.

    Where the registry is away, the one that was fetched last is used, and standard error says so.

    Raises:
        RegistryError: the registry keeps no such profile, or its file is not the one that was kept.
        AwayError: the registry is away, and the profile was not fetched before.
    """
    from mlflow.exceptions import MlflowException

    cached = project.cache().with_name("profiles") / f"{name}.json"
    try:
        client = store.client()
    except store.AwayError as error:
        if not cached.is_file():
            raise
        print(f"{error}; going on with profile {name}, fetched before", file=sys.stderr)
        return cached
    try:
        tags = client.get_registered_model(model).tags
    except MlflowException:
        tags = {}
    if f"{_TAG}{name}" not in tags:
        known = ", ".join(sorted(key.removeprefix(_TAG) for key in tags if key.startswith(_TAG))) or "none"
        raise RegistryError(
            f"{name}: no such file, and {model} keeps no profile of this name (known: {known}); "
            f"`overtone profile REFERENCE --output {name}.json --register {name}` makes one"
        )
    place, _, digest = tags[f"{_TAG}{name}"].rpartition(" ")
    if not cached.is_file() or hashlib.sha256(cached.read_bytes()).hexdigest() != digest:
        run_id, _, path = place.partition("/")
        with tempfile.TemporaryDirectory(prefix="overtone-") as temporary, replacing(cached) as made:
            content = Path(client.download_artifacts(run_id, path, temporary)).read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise RegistryError(f"profile {name}: the stored file is not the one that was kept; register it again")
            made.write_bytes(content)
    return cached
