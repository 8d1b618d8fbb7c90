"""Whether somebody has said that a stack or a strategy is to stand still: in its spec, or by an annotation."""

from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.objects import GROUP, Manifest

PAUSED_ANNOTATION = f"{GROUP}/paused"
NOT_UNDERSTOOD = "NotUnderstood"


def is_paused(manifest: Manifest) -> bool:
    """Whether it is."""
    return bool(manifest["spec"].get("paused")) or _annotated(manifest) == "true"


def not_paused(manifest: Manifest) -> Observation:
    """The condition of one that goes on: an annotation that nobody understands must not seem to hold it."""
    said = _annotated(manifest)
    if said in ("", "true", "false"):
        return Observation("Paused", False, "NotPaused")
    words = f'the annotation {PAUSED_ANNOTATION} is "{said[:40]}", and only "true" pauses: it goes on'
    return Observation("Paused", False, NOT_UNDERSTOOD, words)


def _annotated(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(PAUSED_ANNOTATION, ""))
