"""From a registered version back to run, commit, settings and data: each step checked, and how to make it again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from overtone.registry import checks, origin, versions
from overtone.registry.checks import Link
from overtone.registry.origin import Origin
from overtone.tracking import provenance, store


@dataclass(frozen=True)
class Lineage:
    """A version's origin and the links to it, the version first."""

    origin: Origin
    links: tuple[Link, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing differs; what could not be checked does not count against it."""
        return all(link.state != "differs" for link in self.links)

    @property
    def commands(self) -> list[str]:
        """What to type to make the version again; nothing where the source was not kept."""
        folder = f"../{self.origin.name}-version-{self.origin.version}"
        patched = []
        if not self.origin.commit or (self.origin.dirty and self.origin.patch is None):
            return []
        if self.origin.dirty:
            fetched = f"mlflow artifacts download -r {self.origin.run_id} -a source/{provenance.PATCH} -d {folder}"
            patched = [fetched, f"git -C {folder} apply {provenance.PATCH}"]
        return [f"git worktree add {folder} {self.origin.commit}", *patched, f"make -C {folder} repro"]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        facts = asdict(self.origin) | {"patch": self.origin.patch is not None}
        return {"origin": facts, "links": [asdict(link) for link in self.links], "holds": self.holds}


def trace(name: str, reference: str) -> Lineage:
    """A version's lineage; every link is checked against what can be had here.

    Args:
        name: registered model.
        reference: version or alias.

    Raises:
        RegistryError: no such model, version or alias.
    """
    client = store.client()
    version = versions.resolve(client, name, reference)
    with tempfile.TemporaryDirectory(prefix="overtone-") as temporary:
        case = origin.case(client, version, Path(temporary))
        return Lineage(origin.summary(case), tuple(checks.check(case)))


def text(lineage: Lineage) -> str:
    """A line for each link, and the commands that make the version again."""
    return "\n".join(_lines(lineage))


def _lines(lineage: Lineage) -> Iterator[str]:
    width = max(len(link.what) for link in lineage.links)
    for link in lineage.links:
        yield f"{link.state:<8}{link.what:<{width}}  {link.value}"
        yield f"{'':<{8 + width}}    {link.note}"
    yield ""
    if lineage.commands:
        yield "To make it again:"
        yield from (f"  {command}" for command in lineage.commands)
        yield f"or, compared in a temporary clone:\n  overtone reproduce {lineage.origin.version}"
    else:
        yield "It cannot be made again: its source was not kept whole."
