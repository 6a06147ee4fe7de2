"""Print the licence of each package that the lock pins; status 1 if one is neither allowed nor has its reason.

What is allowed, and the reasons for others, are in requirements/licences.toml.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "lock-py311.txt"
RULES = tomllib.loads((ROOT / "requirements" / "licences.toml").read_text())


def installed() -> dict[str, tuple[str, str]]:
    """Version and licence of what the lock names and this environment has."""
    pinned = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.MULTILINE)}
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--with-system"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found = {canonicalize_name(row["Name"]): (row["Version"], row["License"]) for row in rows}
    return {name: found[name] for name in sorted(pinned & found.keys())}


def allowed(licence: str) -> bool:
    """Whether a licence, or an expression of several, is allowed: all of `AND`, `;` and `WITH`, one of `OR`."""
    parts = re.split(r" AND |; | WITH ", re.sub(r"\(([^()]* OR [^()]*)\)", r"\1", licence))
    return all(any(one.strip() in RULES["allowed"] for one in part.split(" OR ")) for part in parts)


def reason(name: str) -> str:
    return next((why for pattern, why in RULES["reasons"].items() if fnmatchcase(name, pattern)), "")


def main() -> int:
    refused = 0
    for name, (version, licence) in installed().items():
        why = reason(name)
        print(f"{name} {version}: {licence}" + (f" ({why})" if why else ""))
        if not allowed(licence) and not why:
            refused += 1
            print(f"{name}: {licence}: not allowed; expected a reason in requirements/licences.toml", file=sys.stderr)
    return int(refused > 0)


if __name__ == "__main__":
    sys.exit(main())
