"""What a client is told when something is wrong: RFC 9457, with a code that a program can rely on."""

from typing import Any

import msgspec

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "https://trade2026.io/problems/"


class Problem(Exception):
    """An error with an answer for the client.

    Args:
        status: HTTP status.
        code: Stable, snake_case; also the end of the `type`.
        detail: What is wrong and what to do, for a person.
        field: Path of the offending field, e.g. `orders[0].price`.
        retry_after: Seconds after which the same request may succeed.
        extra: Further members of the document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after: float | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        assert 400 <= status < 600
        self.status, self.code, self.detail, self.field = status, code, detail, field
        self.retry_after, self.extra = retry_after, extra

    def body(self) -> dict[str, Any]:
        """The problem document."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.field is not None:
            document["field"] = self.field
        if self.retry_after is not None:
            document["retry_after"] = self.retry_after
        return document | self.extra


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """RFC 9457, as it is shown in the OpenAPI document; some problems have more members."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str = ""
    retry_after: float = 0
    replica: str = ""
    """That could not be asked, did not answer or refused, where the request was sent on to it."""
