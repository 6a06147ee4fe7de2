"""Where the server's key comes from, and when there must be one."""

from __future__ import annotations

import os
from pathlib import Path

from overtone.errors import OvertoneError
from overtone.serving.door import is_loopback

VARIABLE = "OVERTONE_API_KEY"
_SHORTEST = 16


def read(file: Path | None) -> str | None:
    """The key in a file, else in `OVERTONE_API_KEY`; None where neither is given.

    Raises:
        OvertoneError: the file cannot be read, or what it holds is no key.
    """
    if file is None:
        found, where = os.environ.get(VARIABLE, "").strip(), VARIABLE
        if not found:
            return None
    else:
        where = str(file)
        try:
            found = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OvertoneError(f"{file}: the key cannot be read: {error}") from None
    if len(found) < _SHORTEST or not found.isascii() or not found.isprintable() or " " in found:
        raise OvertoneError(f"{where}: expected a key of at least {_SHORTEST} printable characters without spaces")
    return found


def require(host: str, key: str | None, insecure: bool) -> None:
    """Refuse to listen where others reach the server and anyone may use it.

    Raises:
        OvertoneError: an address that is not this machine's own alone, no key, and no word that this is meant.
    """
    if key is None and not insecure and not is_loopback(host):
        raise OvertoneError(
            f"{host}: others can reach this address; give a key (--api-key-file or {VARIABLE}), or --insecure-no-key"
        )
