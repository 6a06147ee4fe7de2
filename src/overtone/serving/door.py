"""What stands before every route: the key, where a browser may come from, headers for safety, counting."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import time
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overtone.serving.meters import Meters
from overtone.serving.options import Options

# For those who watch over the server, and the page, which asks for the key itself.
OPEN = frozenset({"/healthz", "/readyz", "/"})
OPEN_FOLDER = "/page/"
# A WebSocket's key may come in its first message.
LIVE = "/v1/live"
SAFETY = {
    # Pages and scripts come from here alone. Swagger UI draws its icons from data in its style sheet, and the page plays
    # what it has made itself.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
        "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # A page from elsewhere gets nothing by an element either.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})


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


class Door:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, options: Options, meters: Meters) -> None:
        self._app = app
        self._options = options
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SAFETY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            refused = self._refusal(scope)
            await (refused or self._app)(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._meters.answered(route, method, status, time.perf_counter() - begun)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if self._stranger(headers):
            # Closing before accepting is answering 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "origin"})
            return
        scope["state"]["key_shown"] = self._options.key is None or shows_key(headers, self._options.key)
        if scope["path"] != LIVE and not scope["state"]["key_shown"]:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "key"})
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if scope["path"] in OPEN or scope["path"].startswith(OPEN_FOLDER):
            return None
        if self._stranger(headers):
            return JSONResponse({"detail": "requests of pages from elsewhere are not answered"}, 403)
        if self._options.key is not None and not shows_key(headers, self._options.key):
            told = "expected the server's key, as Authorization: Bearer KEY or X-API-Key: KEY"
            # Browsers then ask for a name, which is not looked at, and a password; a page's own requests do so themselves.
            asking = headers.get("sec-fetch-mode", "navigate") == "navigate"
            return JSONResponse(
                {"detail": told}, 401, {"WWW-Authenticate": 'Basic realm="overtone"'} if asking else None
            )
        return None

    def _stranger(self, headers: Headers) -> bool:
        """Whether a browser sends this for a page that is not the server's own.

        Without a key a server on this machine must know its own name too: a page from elsewhere may have had its own
        name pointed here.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        known = self._options.hosts
        if origin is not None and urlsplit(origin).netloc != host and urlsplit(origin).hostname not in known:
            return True
        name = urlsplit(f"//{host}").hostname or ""
        guarded = self._options.key is None and is_loopback(self._options.host)
        return guarded and not is_loopback(name) and name not in known
