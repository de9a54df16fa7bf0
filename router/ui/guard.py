"""What keeps a page on one's own machine to oneself: who may ask, what a page may do, and which posts are meant."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

SESSION_COOKIE = "ttt_router_session"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Tells posts that come from our own pages from those that any other page could send."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def new_session(self) -> str:
        """Return the value of a new session's cookie."""
        return secrets.token_urlsafe(24)

    def token(self, session: str) -> str:
        """Return what a form of this session carries."""
        return hmac.new(self._secret, session.encode(), hashlib.sha256).hexdigest()

    def meant(self, session: str | None, token: str | None, headers: Mapping[str, str]) -> bool:
        """Tell whether a post carries its session's token and, where the browser says where from, comes from here."""
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return False
        return bool(session and token) and hmac.compare_digest(self.token(session or ""), token or "")


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is this machine and nobody else's way to it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """Return the name in a Host header, without the port."""
    return urlsplit(f"//{header}").hostname or ""
