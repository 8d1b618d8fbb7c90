"""The page of endpoints: complete in itself, and only its own style and script may run."""

import base64
import hashlib
import re

from trade2026.kit.docs_page import page


def test_the_page_loads_nothing_from_elsewhere() -> None:
    html = page().body.decode()
    assert not re.search(r"(?:https?:)?//[a-z]", html.replace("http://127.0.0.1", ""))
    assert "/openapi.json" in html
    assert "prefers-color-scheme: dark" in html


def test_the_policy_allows_just_what_is_in_the_page() -> None:
    html = page().body.decode()
    policy = dict(page().headers)[b"content-security-policy"].decode()
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_nothing_in_the_document_can_become_markup() -> None:
    assert "innerHTML" not in page().body.decode()
