"""Tasks behind HTTP and WebSockets. Needs the extra `server`.

app = create_app([resize, ocr])        an ASGI app, to serve or to mount
"""

from __future__ import annotations

from hybrid_compute.server.app import App as App
from hybrid_compute.server.app import create_app as create_app
from hybrid_compute.server.limits import Limits as Limits
from hybrid_compute.server.tenants import Tenant as Tenant
from hybrid_compute.server.tenants import hash_token as hash_token
from hybrid_compute.server.tenants import load_tenants as load_tenants
from hybrid_compute.server.tenants import new_token as new_token

__all__ = ["App", "Limits", "Tenant", "create_app", "hash_token", "load_tenants", "new_token"]
