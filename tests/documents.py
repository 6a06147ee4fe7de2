"""The commands of the documentation, read from its pages: what is run, and what is not for which reason.

A block of code with the label `sh` holds commands. Comments of Markdown, which no reader sees, say how a test runs them:

    <!-- place: clone -->            the page is read in a fresh clone; without it, in one where the pipeline has run
    <!-- skip: REASON -->            the next block is not run
    <!-- skip "TEXT": REASON -->     of the next block, the commands with TEXT in them are not
    <!-- value "TEXT": OTHER -->     in the next block a test takes OTHER for TEXT
    <!-- status: 1 -->               the next block ends with this exit status
    <!-- background: CONDITION -->   the next block runs on (a server); what follows waits until CONDITION holds
    <!-- run: COMMANDS -->           what the reader did by other means, or a check of what came of it; `stop`
                                     ends what was last put into the background

A page's blocks are typed into one shell, one after the other. `python tests/documents.py` lists what is run and what is not.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "released").glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
KINDS = {"place", "skip", "value", "status", "background", "run"}
PART = re.compile(r'<!-- (\w+)(?: "([^"]*)")?: (.*?) -->|^( *)```(\w*)\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)
# They would change the environment that the tests run in: to be skipped on their pages.
HARMFUL = re.compile(r"-m venv|(?:^|[;&|] *)make (?!help)|pip uninstall|pip download")
START = """\
set -meuo pipefail
stop() { kill -- -$!; wait $! || true; }
up() { # LOG CONDITION: waits for what was started last
  for _ in $(seq 600); do
    if eval "$2" >/dev/null 2>&1; then return 0; fi
    if ! kill -0 $!; then break; fi
    sleep 0.5
  done
  cat "$1" >&2; return 1
}
"""


@dataclass(frozen=True)
class Mark:
    """A comment that says how the next block is run."""

    kind: str
    text: str
    value: str


@dataclass(frozen=True)
class Block:
    """Commands of a page, or of a mark `run`, which no reader sees."""

    line: int
    text: str
    marks: tuple[Mark, ...] = ()
    shown: bool = True

    def of(self, kind: str) -> list[Mark]:
        return [mark for mark in self.marks if mark.kind == kind]

    def skipped(self) -> list[tuple[str, str]]:
        """(command, reason) of what is not run."""
        marks = self.of("skip")
        return [(one, mark.value) for one in commands(self.text) for mark in marks if mark.text in one]

    def run(self) -> list[str]:
        """The commands that are run, with the values that a test takes.

        Raises:
            ValueError: a mark names what is not in the block, or a command would change the tests' own environment.
        """
        for mark in self.marks:
            if mark.text and mark.text not in self.text:
                raise ValueError(f"line {self.line}: {mark.kind} names {mark.text!r}, which is not in the block")
        left = {one for one, _ in self.skipped()}
        found = [one for one in commands(self.text) if one not in left]
        for mark in self.of("value"):
            found = [one.replace(mark.text, mark.value) for one in found]
        for one in found:
            if HARMFUL.search(one):
                raise ValueError(
                    f"line {self.line}: to be skipped, it would change the environment of the tests: {one}"
                )
        return found


@dataclass(frozen=True)
class Page:
    """A page of the documentation: where it is read, and its blocks of commands."""

    path: Path
    place: str
    blocks: tuple[Block, ...]

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def script(self) -> str:
        """What a reader types, for bash; the line of a page before each block goes to standard error."""
        return START + "".join(self._step(block) for block in self.blocks if block.run())

    def _step(self, block: Block) -> str:
        body = "\n".join(block.run())
        here = f"echo '@@ {self.name}:{block.line}' >&2\n"
        if condition := block.of("background"):
            log = f".page-{block.line}.log"
            return f"{here}{{\n{body}\n}} >{log} 2>&1 &\nup {log} {shlex.quote(condition[0].value)}\n"
        if status := block.of("status"):
            return f"{here}set +e\n(\n{body}\n)\nended=$?\nset -e\ntest $ended = {status[0].value}\n"
        return f"{here}{body}\n"


def page(path: Path) -> Page:
    """Read a page.

    Raises:
        ValueError: a comment is written as a mark and is none.
    """
    text = path.read_text()
    place, marks, blocks = "line", [], []
    for part in PART.finditer(text):
        kind, what, value, _, label, body = part.groups()
        line = text.count("\n", 0, part.start()) + 1
        if kind and kind not in KINDS:
            raise ValueError(f"{path.name}:{line}: no such mark: {kind}")
        if kind == "place":
            place = value
        elif kind == "run":
            blocks.append(Block(line, value, shown=False))
        elif kind:
            marks.append(Mark(kind, what or "", value))
        elif label == "sh":
            blocks.append(Block(line, body, tuple(marks)))
            marks = []
        elif marks:
            raise ValueError(f"{path.name}:{line}: {marks[0].kind} stands before a block that holds no commands")
    return Page(path, place, tuple(blocks))


def commands(text: str) -> list[str]:
    """Commands of a block, each with the lines that it goes on in; without comments."""
    found: list[str] = []
    going_on = False
    for line in text.splitlines():
        if going_on:
            found[-1] += f"\n{line}"
        elif line.strip() and not line.lstrip().startswith("#"):
            found.append(line)
        else:
            continue
        going_on = line.rstrip().endswith(("\\", "|", "&&"))
    return found


def labels(path: Path) -> Iterator[tuple[int, str]]:
    """(line, label) of each block of code on a page."""
    text = path.read_text()
    for part in PART.finditer(text):
        if part[5] is not None:
            yield text.count("\n", 0, part.start()) + 1, part[5]


def main() -> None:
    run = skipped = 0
    for one in map(page, PAGES):
        for block in (block for block in one.blocks if block.shown):
            run += len(block.run())
            for command, reason in block.skipped():
                skipped += 1
                print(f"{one.name}:{block.line}: {command.splitlines()[0][:60]}\n    {reason}")
    print(f"{run} commands are run, {skipped} are not")


if __name__ == "__main__":
    main()
