"""Draw docs/images/quickstart.svg from a real run: `make up` as the README says, an order by curl, its trace.

Usage: python docs/picture.py [--port-offset N]

The picture has both themes; text is laid out by the cell, so that it does not depend on the reader's font.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "quickstart.svg"
ORDER = '{"symbol":"BTCUSDT","side":"buy","quantity":0.001,"price":45000,"order_type":"LIMIT"}'
PRICE_MAX = 44_950
CELL, LINE, SIZE, MARGIN = 8.0, 19, 13, 18
WAIT_SECONDS = 60

STYLE = """
    svg { --page: #ffffff; --frame: #d1d9e0; --ink: #1f2328; --soft: #59636e; --typed: #0550ae; --good: #1a7f37; --bar: #0969da; }
    @media (prefers-color-scheme: dark) {
      svg { --page: #0d1117; --frame: #30363d; --ink: #e6edf3; --soft: #9198a1; --typed: #79c0ff; --good: #3fb950; --bar: #58a6ff; }
    }
    text { fill: var(--ink); white-space: pre; }
    .soft { fill: var(--soft); } .typed { fill: var(--typed); } .good { fill: var(--good); } .head { font-weight: 600; }
    rect.page { fill: var(--page); stroke: var(--frame); } rect.bar { fill: var(--bar); }
"""


def run(*words: str, offset: int, state: Path) -> str:
    """Run `trade2026`, with no width to fit into; return what it says."""
    command = [sys.executable, "-m", "trade2026", *words, "--state-dir", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"NO_COLOR": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}{done.stdout}")
    # The reader's ports are those of the README, whatever is free on this machine.
    return re.sub(
        r"\b(1?\d{4,5})\b(?=  (?:yes|no|unwell))", lambda port: f"{int(port[1]) - offset:>{len(port[1])}}", done.stdout
    )


def record(offset: int) -> list[str]:
    """What a terminal shows; a line that begins with `$` was typed."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        up = ("up", "-f", "manifests/quickstart.yaml", "--detach", "--port-offset", str(offset))
        run(*up, offset=offset, state=state)
        try:
            # The table of `make up` is live, so that it shows the order that is typed below it.
            wait_for_price(offset)
            answer = order(offset)
            order_id = json.loads(answer)["order_id"]
            lines = ["$ make up", *settled(offset, state).splitlines()]
            curl = "curl -X POST localhost:8099/orders -H 'Content-Type: application/json' \\"
            lines += ["", f"$ {curl}", f"    -d '{ORDER}'", answer]
            trace = traced(order_id, offset, state)
            lines += ["", "$ trade2026 trace", *trace.splitlines()]
        finally:
            run("down", offset=offset, state=state)
    return lines


def settled(offset: int, state: Path) -> str:
    """The table, once each service has heard of the others and each strategy has traded."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        status = json.loads(run("status", "--json", offset=offset, state=state))
        table = run("status", offset=offset, state=state)
        if "peer" not in table and all(float(each["pnl"]) for each in status["strategies"]):
            return table
        time.sleep(0.2)
    raise SystemExit("not every strategy has traded: try again")


def wait_for_price(offset: int) -> None:
    """Wait until the market is well below the order's price, so that it fills at once."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{8080 + offset}/ticker/BTCUSDT", timeout=10) as answer:
            if float(json.load(answer)["ask"] or "inf") < PRICE_MAX:
                return
        time.sleep(0.05)
    raise SystemExit("the market stays above the order's price: try again")


def order(offset: int) -> str:
    """Place the README's order; return the answer."""
    command = ["curl", "-s", "-X", "POST", f"localhost:{8099 + offset}/orders", "-H", "Content-Type: application/json"]
    return subprocess.run([*command, "-d", ORDER], capture_output=True, text=True, check=True).stdout


def traced(order_id: str, offset: int, state: Path) -> str:
    """The trace of an order, once it has got as far as its P&L."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            text = run("trace", order_id, offset=offset, state=state)
        except SystemExit:
            text = ""
        if "PnlRealized" in text and "PositionChanged" in text:
            return text
        time.sleep(0.2)
    raise SystemExit(f"{order_id} did not fill: the market was elsewhere; try again")


def drawn(lines: list[str]) -> str:
    """The lines as an SVG document."""
    lines = [line.rstrip() for line in lines]
    width = int(max(map(len, lines)) * CELL + 2 * MARGIN)
    height = len(lines) * LINE + 2 * MARGIN
    shapes = [shape for number, line in enumerate(lines) for shape in shapes_of(line, MARGIN + (number + 1) * LINE - 5)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" font-size="{SIZE}" '
        "font-family=\"ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', 'Liberation Mono', monospace\" "
        'role="img" aria-labelledby="title">\n'
        '  <title id="title">make up, an order by curl, and its trace through every service</title>\n'
        f"  <style>{STYLE}  </style>\n"
        f'  <rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>\n'
        + "\n".join(f"  {shape}" for shape in shapes)
        + "\n</svg>\n"
    )


def shapes_of(line: str, y: int) -> list[str]:
    """Each word at its cell, each bar as a rectangle."""
    typed = line.startswith(("$ ", "    -d"))
    head = bool(re.match(r" *(SERVICE|STRATEGY|AFTER) ", line)) or line.startswith("quickstart")
    shapes = []
    for match in re.finditer(r"\S+(?: \S+)*", line):
        x, text = MARGIN + match.start() * CELL, match[0]
        if set(text) == {"━"}:
            shapes.append(f'<rect class="bar" x="{x:g}" y="{y - 8}" width="{len(text) * CELL:g}" height="6" rx="2"/>')
            continue
        kind = (
            "typed"
            if typed
            else "head"
            if head
            else "good"
            if text in ("yes", "running")
            else "soft"
            if text == "–"
            else ""
        )
        kept = f' class="{kind}"' if kind else ""
        shapes.append(f'<text x="{x:g}" y="{y}"{kept} textLength="{len(text) * CELL:g}">{escape(text)}</text>')
    return shapes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-offset", type=int, default=700)
    offset = parser.parse_args().port_offset
    lines = record(offset)
    if any("market.ticks" in line for line in lines):
        raise SystemExit("the market moved away before the order came: try again")
    PICTURE.write_text(drawn(lines))
    print(f"wrote {PICTURE.relative_to(ROOT)}")
