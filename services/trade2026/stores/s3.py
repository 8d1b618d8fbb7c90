"""Where a lake lies in a store of objects that speaks S3, and what the Delta library must be told to write there.

A commit is an object that is put only if there is none of its name (`If-None-Match`), so that of two writers of one
version one fails. Amazon's store and most others can do that; one that can't must not be used.
"""

import os
from collections.abc import Mapping

import msgspec

from trade2026.stores.lake import LakeError

CONNECT_SECONDS_MAX = 3
REQUEST_SECONDS_MAX = 20
RETRY_SECONDS_MAX = 5
"""The sink itself tries again, and says meanwhile what is wrong: the library need not hide it for minutes."""
_RETRIES_MAX = 3


class S3Settings(msgspec.Struct, kw_only=True, frozen=True):
    """The bucket, as `spec.stores.lake` names it."""

    url: str
    type: str = "s3"
    endpoint: str = ""
    region: str = "us-east-1"
    access_key_variable: str = "AWS_ACCESS_KEY_ID"
    secret_key_variable: str = "AWS_SECRET_ACCESS_KEY"

    def options(self, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
        """What the library is told.

        Raises:
            LakeError: one of the two keys is missing.
        """
        told = {
            "aws_conditional_put": "etag",
            "AWS_REGION": self.region,
            "connect_timeout": f"{CONNECT_SECONDS_MAX}s",
            "timeout": f"{REQUEST_SECONDS_MAX}s",
            "max_retries": str(_RETRIES_MAX),
            "retry_timeout": f"{RETRY_SECONDS_MAX}s",
        }
        if self.endpoint:
            told["AWS_ENDPOINT_URL"] = self.endpoint
        if self.endpoint.startswith("http://"):
            told["AWS_ALLOW_HTTP"] = "true"
        return told | self._credentials(environment)

    def _credentials(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The keys; without any, a store of one's own is asked as nobody, and Amazon's as the machine's role."""
        names = {"AWS_ACCESS_KEY_ID": self.access_key_variable, "AWS_SECRET_ACCESS_KEY": self.secret_key_variable}
        keys = {option: environment[name] for option, name in names.items() if environment.get(name)}
        missing = [name for option, name in names.items() if option not in keys]
        if len(missing) == 1:
            raise LakeError(f"the environment variable {missing[0]} is not set, which spec.stores.lake names")
        if not keys and self.endpoint:
            return {"AWS_SKIP_SIGNATURE": "true"}
        return keys
