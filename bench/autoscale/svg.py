"""What both plots begin with: a page that is light or dark as the reader has it, and a colour for each class of lines."""

from collections.abc import Mapping

Colours = Mapping[str, tuple[str, str]]
"""Of a class: on white, on black."""


def opened(width: int, height: int, colours: Colours) -> list[str]:
    """An SVG up to its first shape. A shape is `line`, `dot` or `ring` and one of the classes; others are `axis` and `grid`."""
    light, dark = ("".join(f".{name}{{--c:{of[which]}}}" for name, of in colours.items()) for which in (0, 1))
    style = (
        ".page{fill:#fff}text{fill:#1f2328}.axis{stroke:#57606a;fill:none}.grid{stroke:#d0d7de;stroke-width:.5}"
        ".line{stroke:var(--c);stroke-width:1.5;fill:none}.dot{fill:var(--c)}.ring{stroke:var(--c);stroke-width:2;fill:none}"
        f".dashed{{stroke-dasharray:4 3}}{light}"
        "@media (prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#e6edf3}.axis{stroke:#8b949e}"
        f".grid{{stroke:#30363d}}{dark}}}"
    )
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f"<style>{style}</style>",
        f'<rect width="{width}" height="{height}" class="page"/>',
    ]
