"""Tenants: whose adapter it is. The name is part of the key, of what is signed, and of every name in a store."""

from __future__ import annotations

import re

from ttt_engine.adapter import DEFAULT_TENANT
from ttt_engine.errors import StoreMisconfigured

__all__ = ["DEFAULT_TENANT", "TENANT_NAME", "checked_tenant"]

# no character that means something in a path, a Redis pattern or a cluster's hash tag
TENANT_NAME = r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?"


def checked_tenant(name: str) -> str:
    """Return the name of a tenant, if it is one.

    Raises:
        StoreMisconfigured: it is not.
    """
    if not re.fullmatch(TENANT_NAME, name):
        raise StoreMisconfigured(
            f"{name[:80]!r} is no name of a tenant",
            remedy="Use 1 to 64 of a-z, 0-9, - and _, the first and the last a letter or a digit.",
        )
    return name
