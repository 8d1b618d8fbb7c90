"""What a manifest asks for that only a cluster can do: a laptop takes it, does not heed it, and says so."""

from collections.abc import Iterator

from pydantic import BaseModel

from trade2026.stack.manifest import Manifest
from trade2026.stack.operation import CLUSTER_ONLY


def not_heeded(manifest: Manifest) -> list[str]:
    """The fields that have no effect on a laptop and are set to something else than their defaults."""
    found = list(_set(manifest.stack.spec, "spec"))
    for strategy in manifest.strategies:
        at = f"strategy {strategy.metadata.name}"
        found += _set(strategy.spec, f"{at}: spec")
    return found


def _set(model: BaseModel, at: str) -> Iterator[str]:
    for name, field in type(model).model_fields.items():
        value, place = getattr(model, name), f"{at}.{field.alias or name}"
        if CLUSTER_ONLY in field.metadata:
            if value != field.get_default(call_default_factory=True):
                yield place
        elif isinstance(value, BaseModel):
            yield from _set(value, place)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, BaseModel):
                    yield from _set(inner, f"{place}.{key}")
