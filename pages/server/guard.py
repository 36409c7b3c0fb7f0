"""What every answer of the dashboard's server says to a browser, and whom it does not answer.

The page may load, connect to and be framed by nothing but its own address. A page of another address, another port of
this machine included, gets no answer: Streamlit by itself lets every port of localhost in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

from pages.views.focus import SCRIPT

Message = MutableMapping[str, Any]
HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
POLICY = (
    "default-src 'self'; script-src 'self'{inline}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self'{sockets}; worker-src 'self' blob:; "
    "frame-src 'none'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)  # styles: Streamlit and Plotly write theirs into the page; sockets: not every browser counts them to 'self'
LOCAL = ("127.0.0.1", "localhost", "::1")
OTHER_PAGE = b"Asked for by a page of another address: open the dashboard itself.\n"
OTHER_NAME = b"The dashboard has no such name: open it by the address it printed, or name it in server.allowedHosts.\n"
HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Guard:
    """ASGI middleware in front of Streamlit."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app, self._inline = app, _inline_scripts()

    async def __call__(self, scope: Message, receive: Callable, send: Callable) -> None:
        """Refuse a request that another page sent, else answer it with the headers."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        said = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = said.get(b"host", ""), said.get(b"origin")
        headers = [*HEADERS, (b"content-security-policy", self._policy(host).encode())]

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in headers}
                message["headers"] = [*(h for h in message["headers"] if h[0].lower() not in names), *headers]
            await send(message)

        why = OTHER_NAME if not called_so(host) else OTHER_PAGE if origin is not None and not own(origin, host) else b""
        if why:
            return await _refuse(scope["type"], why, receive, guarded)
        await self._app(scope, receive, guarded)

    def _policy(self, host: str) -> str:
        sockets = f" ws://{host} wss://{host}" if HOST.fullmatch(host) else ""
        return POLICY.format(inline=self._inline, sockets=sockets)


def own(origin: str, host: str) -> bool:
    """Is this the origin of a page of the dashboard itself, or one that `server.corsAllowedOrigins` names?"""
    return urlsplit(origin).netloc == host or origin in st.get_option("server.corsAllowedOrigins")


def called_so(host: str) -> bool:
    """Is the dashboard asked for by a name it has? A name of the web may be pointed at this machine (DNS rebinding).

    Where it listens to this machine alone that is a name of this machine, or one in `server.allowedHosts`.
    """
    name = urlsplit(f"//{host}").hostname or ""
    if st.get_option("server.address") not in LOCAL:
        return True  # Streamlit's own check of allowedHosts remains
    return name in LOCAL or bool({name, "*"} & {*st.get_option("server.allowedHosts")})


async def _refuse(kind: str, why: bytes, receive: Callable, send: Callable) -> None:
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: answered with 403
        return
    plain = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": 403, "headers": [plain]})
    await send({"type": "http.response.body", "body": why})


def _inline_scripts() -> str:
    """Hashes of the scripts in Streamlit's own page, and of the one that keeps the focus: no other may run inline."""
    page = (Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    sources = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in (*scripts, SCRIPT))
    return "".join(f" 'sha256-{source}'" for source in sources)
