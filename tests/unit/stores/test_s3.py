"""What the library is told of a bucket follows from the manifest and the environment, and keys are in neither."""

import pytest

from trade2026.stores.lake import LakeError
from trade2026.stores.s3 import S3Settings

OWN = S3Settings(url="s3://lake/desk", endpoint="http://127.0.0.1:8333")
AMAZON = S3Settings(url="s3://lake/desk", region="eu-central-1")
KEYS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_commits_are_made_only_where_there_is_none_of_their_name() -> None:
    assert all(settings.options(KEYS)["aws_conditional_put"] == "etag" for settings in (OWN, AMAZON))


def test_only_an_endpoint_that_says_so_is_spoken_to_without_encryption() -> None:
    assert OWN.options(KEYS)["AWS_ALLOW_HTTP"] == "true"
    encrypted = S3Settings(url="s3://lake/desk", endpoint="https://store.example:443")
    assert not {"AWS_ALLOW_HTTP"} & {*encrypted.options(KEYS), *AMAZON.options(KEYS)}
    assert AMAZON.options(KEYS)["AWS_REGION"] == "eu-central-1"


def test_the_keys_come_from_the_variables_that_are_named() -> None:
    named = S3Settings(url="s3://lake/desk", access_key_variable="LAKE_KEY", secret_key_variable="LAKE_SECRET")
    told = named.options({**KEYS, "LAKE_KEY": "it", "LAKE_SECRET": "hidden"})
    assert (told["AWS_ACCESS_KEY_ID"], told["AWS_SECRET_ACCESS_KEY"]) == ("it", "hidden")


def test_without_keys_a_store_of_ones_own_is_asked_as_nobody_and_amazons_as_the_machines_role() -> None:
    assert OWN.options({})["AWS_SKIP_SIGNATURE"] == "true"
    assert not {"AWS_SKIP_SIGNATURE", "AWS_ACCESS_KEY_ID"} & AMAZON.options({}).keys()


@pytest.mark.parametrize("missing", KEYS)
def test_one_key_without_the_other_is_a_mistake_that_is_named(missing: str) -> None:
    with pytest.raises(LakeError, match=f"{missing} is not set"):
        OWN.options({name: value for name, value in KEYS.items() if name != missing})
