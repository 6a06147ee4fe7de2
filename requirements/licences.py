"""Licences of what the lock pins: docs/licences.md, or with --check whether each is allowed or has its reason."""

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
PAGE = ROOT / "docs" / "licences.md"
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


def page(rows: dict[str, tuple[str, str]]) -> str:
    """The table in Markdown."""
    lines = [
        "# Licences",
        "",
        "What `requirements/lock-py311.txt` pins, and under which licence. `make licences` writes this page;",
        "`requirements/licences.toml` has the licences that are allowed and the reasons for others.",
        "",
        "| Package | Version | Licence | Reason |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {version} | {licence} | {reason(name)} |" for name, (version, licence) in rows.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    rows = installed()
    refused = [f"{name} {version}: {licence}" for name, (version, licence) in rows.items()
               if not allowed(licence) and not reason(name)]  # fmt: skip
    for line in refused:
        print(f"{line}: not among the allowed licences; expected a reason in requirements/licences.toml")
    if "--check" in sys.argv[1:]:
        listed = set(re.findall(r"^\| ([\w.-]+) \|", PAGE.read_text(), re.MULTILINE))
        missing = rows.keys() - listed
        for name in sorted(missing):
            print(f"{name}: not in docs/licences.md; run `make licences`")
        return int(bool(refused or missing))
    PAGE.write_text(page(rows))
    print(f"{PAGE.relative_to(ROOT)}: {len(rows)} packages")
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())
