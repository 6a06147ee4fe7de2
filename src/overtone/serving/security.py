"""Who may ask: the key, the hosts and pages that requests come from, headers for safety."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overtone.errors import OvertoneError
from overtone.serving.options import Options

VARIABLE = "OVERTONE_API_KEY"
_SHORTEST = 16
# For those who watch over the server, and the page, which asks for the key itself.
_OPEN = frozenset({"/healthz", "/readyz", "/"})
_OPEN_FOLDER = "/page/"
# A WebSocket's key may come in its first message.
LIVE = "/v1/live"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # A page from elsewhere gets nothing by an element either.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}
# RFC 3986: a name, an address of IPv4, or one of IPv6 in brackets; a port.
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_ORIGIN = re.compile(rf"null|[A-Za-z][A-Za-z0-9+.-]*://{_HOST.pattern}")


def read_key(file: Path | None) -> str | None:
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


def require_key(host: str, key: str | None, insecure: bool) -> None:
    """Refuse to listen where others reach the server and anyone may use it.

    Raises:
        OvertoneError: an address that is not this machine's own alone, no key, and no option that allows it.
    """
    if key is None and not insecure and not is_loopback(host):
        raise OvertoneError(
            f"{host}: others can reach this address; give a key (--api-key-file or {VARIABLE}), or --insecure-no-key"
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def shows_key(headers: Headers, key: str) -> bool:
    """Whether a request's headers hold the key: as bearer, in `X-API-Key`, or as the password of any user."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    shown = headers.get("x-api-key", "")
    if kind.lower() == "bearer":
        shown = value.strip()
    elif kind.lower() == "basic":
        try:
            shown = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            shown = ""
    return same(shown, key)


def same(shown: str, key: str) -> bool:
    """Whether two keys are equal, in a time that says nothing of where they differ or of their length."""
    one, other = (hashlib.sha256(text.encode()).digest() for text in (shown, key))
    return hmac.compare_digest(one, other)


class Security:
    """ASGI middleware that answers what may not pass, and adds headers for safety to every answer."""

    def __init__(self, app: ASGIApp, options: Options) -> None:
        self._app, self._options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (self._refusal(scope) or self._app)(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket" and not self._may_open(scope):
            # Closing before accepting is answering 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    def _may_open(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        if _malformed(headers) or self._is_foreign(headers):
            return False
        key = self._options.key
        scope["state"]["key_shown"] = key is None or shows_key(headers, key)
        return scope["path"] == LIVE or bool(scope["state"]["key_shown"])

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if name := _malformed(headers):
            return JSONResponse({"detail": f"the header {name} is malformed; expected a host as RFC 3986 has it"}, 400)
        if scope["path"] in _OPEN or scope["path"].startswith(_OPEN_FOLDER):
            return None
        if self._is_foreign(headers):
            return JSONResponse({"detail": "requests of pages from elsewhere are not answered"}, 403)
        if self._options.key is not None and not shows_key(headers, self._options.key):
            sentence = "expected the server's key, as Authorization: Bearer KEY or X-API-Key: KEY"
            # Browsers then ask for a name, which is not looked at, and a password; a page's own requests do so themselves.
            asking = headers.get("sec-fetch-mode", "navigate") == "navigate"
            return JSONResponse(
                {"detail": sentence}, 401, {"WWW-Authenticate": 'Basic realm="overtone"'} if asking else None
            )
        return None

    def _is_foreign(self, headers: Headers) -> bool:
        """Whether a browser sends this for a page that is not the server's own.

        Without a key a server on this machine must know its own name too: a page from elsewhere may have had its own
        name pointed here.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        known = self._options.allowed_hosts or ()
        if origin is not None and urlsplit(origin).netloc != host and urlsplit(origin).hostname not in known:
            return True
        name = urlsplit(f"//{host}").hostname or ""
        guarded = self._options.key is None and is_loopback(self._options.host)
        return guarded and not is_loopback(name) and name not in known


def _malformed(headers: Headers) -> str:
    """The header of `Host` and `Origin` that is no host; empty if both are well."""
    if not _HOST.fullmatch(headers.get("host", "")):
        return "Host"
    return "" if _ORIGIN.fullmatch(headers.get("origin", "null")) else "Origin"


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sent
