"""`/page`: the stack at a glance, in one page that loads nothing else and reads the service's own endpoints."""

import base64
import hashlib
from importlib.resources import files

from trade2026.kit.messages import Response

_PARTS = files(__name__)


def page() -> Response:
    """Return the page."""
    return _PAGE


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _make() -> Response:
    style, script = ((_PARTS / name).read_text("utf-8") for name in ("style.css", "script.js"))
    html = (_PARTS / "page.html").read_text("utf-8").replace("/* style */", style).replace("/* script */", script)
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = [(b"content-security-policy", policy.encode()), (b"x-content-type-options", b"nosniff")]
    return Response(html.encode(), content_type="text/html; charset=utf-8", headers=headers)


_PAGE = _make()
