"""What kubectl asks of a plugin beside running it: the words that may come next.

kubectl's own completion calls `kubectl_complete-trade2026 WORD… INCOMPLETE` and reads candidates, one a line, and last a
colon with what the shell is to do. Candidates are written as for the shell fish, which reads the same lines.
"""

import os
import shlex
import sys

_NO_FILES = 4
"""In kubectl's completion: what is offered is all there is; names of files are not."""
_VARIABLE = "_KUBECTL_TRADE2026_COMPLETE"


def complete() -> None:
    """The entry point of `kubectl_complete-trade2026`."""
    from trade2026.cli.app import PLUGIN, app

    *words, incomplete = sys.argv[1:] or [""]
    os.environ |= {
        _VARIABLE: "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": f"{shlex.join(['trade2026', *words])} {incomplete}",
    }
    try:
        app(args=[], prog_name=PLUGIN, complete_var=_VARIABLE)
    except SystemExit:
        print(f":{_NO_FILES}")
