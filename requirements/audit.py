"""Known weaknesses of what a lock pins; status 1 if one has no written reason, 2 if nobody could be asked."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


@dataclass(frozen=True)
class Finding:
    """A weakness of a pinned package, under all of its names."""

    package: str
    version: str
    names: tuple[str, ...]
    summary: str


class UnreachableError(Exception):
    """Nobody answers what is known."""


def pins(lock: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s\\;]+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


# --- an export of the OSV database --------------------------------------------------------------------------------------


def entries(export: Path) -> Iterator[dict[str, Any]]:
    """What an export holds: a folder of JSON files, or a zip file of them."""
    if export.is_dir():
        yield from (json.loads(path.read_bytes()) for path in sorted(export.rglob("*.json")))
        return
    with zipfile.ZipFile(export) as archive:
        yield from (json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json"))


def affects(affected: dict[str, Any], version: str) -> bool:
    """Whether a version is listed, or lies in a range, as https://ossf.github.io/osv-schema has them."""
    if version in affected.get("versions", ()):
        return True
    return any(within(one["events"], version) for one in affected.get("ranges", ()) if one["type"] == "ECOSYSTEM")


def within(events: list[dict[str, str]], version: str) -> bool:
    def order(text: str) -> Version:
        return Version("0.dev0" if text == "0" else text)

    try:
        own, inside = order(version), False
        for event in sorted(events, key=lambda one: order(next(iter(one.values())))):
            kind, text = next(iter(event.items()))
            if kind == "introduced" and own >= order(text):
                inside = True
            elif (kind == "fixed" and own >= order(text)) or (kind == "last_affected" and own > order(text)):
                inside = False
    except InvalidVersion:
        # What cannot be compared may be meant.
        return True
    return inside


def by_export(pinned: dict[str, str], export: Path) -> list[Finding]:
    found = []
    for entry in entries(export):
        if "withdrawn" in entry:
            continue
        for affected in entry.get("affected", ()):
            package = affected.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") == "PyPI" and name in pinned and affects(affected, pinned[name]):
                names = (entry["id"], *entry.get("aliases", ()))
                found.append(Finding(name, pinned[name], names, entry.get("summary", "")))
    return found


# --- a service ----------------------------------------------------------------------------------------------------------


def by_service(lock: Path) -> list[Finding]:
    """What pip-audit's service says.

    Raises:
        UnreachableError: it does not answer, or not about every package.
    """
    options = ["--require-hashes", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [sys.executable, "-m", "pip_audit", "-r", str(lock), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        rows = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise UnreachableError((done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1]) from None
    skipped = [row["name"] for row in rows if "skip_reason" in row]
    if skipped:
        raise UnreachableError(f"the service knows nothing of {len(skipped)} of {len(rows)} packages")
    return [
        Finding(
            canonicalize_name(row["name"]), row["version"], (one["id"], *one.get("aliases", ())), one["description"]
        )
        for row in rows
        for one in row["vulns"]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--reasons", type=Path, required=True, help="TOML: a table a package, identifier = reason")
    parser.add_argument(
        "--osv", type=Path, help="export of the OSV database: folder or zip file; else a service is asked"
    )
    given = parser.parse_args()
    try:
        found = by_export(pins(given.lock), given.osv) if given.osv else by_service(given.lock)
    except UnreachableError as error:
        print(f"not audited: {error}; give an export of the OSV database (make audit OSV=all.zip)", file=sys.stderr)
        return 2
    tables = tomllib.loads(given.reasons.read_text())
    reasoned = {(canonicalize_name(package), name) for package, reasons in tables.items() for name in reasons}
    open_ones = [one for one in found if not any((one.package, name) in reasoned for name in one.names)]
    for one in open_ones:
        print(f"{one.package} {one.version}: {', '.join(one.names)}: {' '.join(one.summary.split())[:200]}")
    print(f"{len(pins(given.lock))} packages, {len(found)} findings, {len(open_ones)} without a reason")
    return int(bool(open_ones))


if __name__ == "__main__":
    sys.exit(main())
