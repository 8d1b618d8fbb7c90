"""What the OpenAPI document says of a route."""

from typing import Any

import pytest

from trade2026.kit.access import Access
from trade2026.kit.http import App
from trade2026.kit.identity import Keyring
from trade2026.kit.messages import Request, Response


class _Keyring(Keyring):
    def __init__(self, *, open: bool) -> None:
        super().__init__("", "127.0.0.1")
        self.open = open


def described(*, keyed: bool = False, **options: Any) -> dict[str, Any]:
    """What is said of a route that was declared like this."""
    app = App("test", access=Access(_Keyring(open=not keyed)))

    @app.route("GET", "/thing", **options)
    async def thing(request: Request) -> Response:
        return Response(b"")

    return app.openapi()["paths"]["/thing"]["get"]


def test_an_answer_has_a_content_type_and_every_other_status_is_a_problem_document() -> None:
    answers = described()["responses"]
    assert set(answers) == {"200", "default"}
    assert list(answers["200"]["content"]) == ["application/json"]
    assert list(answers["default"]["content"]) == ["application/problem+json"]


def test_a_route_may_answer_in_more_than_one_way() -> None:
    answers = described(produces=("application/json", "text/csv"), statuses=(200, 503))["responses"]
    assert list(answers["200"]["content"]) == ["application/json", "text/csv"]
    assert list(answers["503"]["content"]) == ["application/json", "text/csv"]


@pytest.mark.parametrize(
    ("keyed", "role", "security"),
    [(True, "viewer", [{"bearer": []}]), (True, None, None), (False, "viewer", None)],
)
def test_a_key_is_asked_for_only_where_one_is_needed(keyed: bool, role: str | None, security: Any) -> None:
    assert described(keyed=keyed, role=role).get("security") == security
