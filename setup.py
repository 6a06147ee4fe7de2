"""What setuptools has no setting for: the released models, and the templates of `overtone init`, into the package."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "src"))

from overtone.registry import released  # noqa: E402

# Of new projects; see overtone/settings/scaffold.py.
TEMPLATES = ("params.yaml", "dvc.yaml")


class BuildReleased(Command):
    """Puts the released models, checked against their digests, into the built package; their objects into an sdist."""

    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        # An editable installation finds them in its clone.
        if self.editable_mode:
            return
        for kind in released.KINDS:
            listing = released.unpack(ROOT, kind, self._packed / kind)
            (self._packed / f"{kind}.json").write_text(json.dumps(listing, indent=2) + "\n")
        self._template.mkdir(parents=True, exist_ok=True)
        for name in TEMPLATES:
            shutil.copyfile(ROOT / name, self._template / name)

    def get_source_files(self) -> list[str]:
        digests = [released.listing_digest(ROOT, kind) for kind in released.KINDS]
        files = [digest for kind in released.KINDS for digest in (released.listed(ROOT, kind) or {}).values()]
        objects = [released.stored(ROOT, digest) for digest in (*digests, *files) if digest]
        pointers = [released.pointer(ROOT, kind) for kind in released.KINDS]
        return [path.relative_to(ROOT).as_posix() for path in (*pointers, *objects)] + [*TEMPLATES]

    def get_outputs(self) -> list[str]:
        if self.editable_mode:
            return []
        names = [
            name
            for kind in released.KINDS
            for name in (f"{kind}.json", *(f"{kind}/{file}" for file in self._files(kind)))
        ]
        return [str(self._packed / name) for name in names] + [str(self._template / name) for name in TEMPLATES]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    @staticmethod
    def _files(kind: str) -> tuple[str, ...]:
        return tuple(released.listed(ROOT, kind) or ())

    @property
    def _template(self) -> Path:
        return Path(str(self.build_lib)) / "overtone" / "template"

    @property
    def _packed(self) -> Path:
        return Path(str(self.build_lib)) / "overtone" / released.PACKED.name


class Build(build):
    """As setuptools does, and the released models."""

    sub_commands = [*build.sub_commands, ("build_released", None)]  # noqa: RUF012


setup(cmdclass={"build": Build, "build_released": BuildReleased})
