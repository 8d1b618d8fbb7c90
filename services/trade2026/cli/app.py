"""`trade2026`: the commands, each from its own file."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trade2026.cli import (
    accounts,
    audit,
    cache,
    cluster,
    completion,
    data,
    doctor,
    keys,
    lake,
    log,
    manifests,
    migrate,
    monitoring,
    orders,
    parents,
    query,
    risk,
    run,
    serve,
    strategy,
    target,
)
from trade2026.cli.output import USAGE, CliError

PLUGIN = "kubectl trade2026"
"""The name by which kubectl calls this: then a stack in a cluster is meant in any case."""

EPILOG = """Exit codes: 0 done, 1 failed, 2 wrong usage or manifest, 3 the stack is not reachable, 4 the platform refused, 5 a strategy has failed."""


class Sections(TyperGroup):
    """Help whose commands stand under headings; plain text, because drawing it would take longer than the answer."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, a section each kind."""
        commands = [(name, self.commands[name]) for name in self.commands]
        for panel in dict.fromkeys(str(getattr(command, "rich_help_panel", "")) for _, command in commands):
            rows = [
                (name, command.get_short_help_str(limit=120))
                for name, command in commands
                if str(getattr(command, "rich_help_panel", "")) == panel
            ]
            with formatter.section(panel):
                formatter.write_dl(rows)


app = typer.Typer(
    name="trade2026",
    cls=Sections,
    rich_markup_mode=None,
    help="A trading platform that is described by one manifest.\n\nBegin with: trade2026 up -f manifests/quickstart.yaml",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from trade2026 import __version__

        typer.echo(__version__)
        raise typer.Exit


_HERE_ONLY = frozenset({"up", "apply", "down", "migrate", "backup", "restore", "replay", "serve", "doctor", "cluster"})
"""Commands that start, stop or read what is on this machine."""


@app.callback()
def options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    context: Annotated[
        str,
        typer.Option(
            envvar="TRADE2026_CONTEXT",
            show_default=False,
            help="A stack in the cluster of this kubeconfig's context.",
            autocompletion=completion.contexts,
        ),
    ] = "",
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace", "-n", envvar="TRADE2026_NAMESPACE", show_default=False, help="Its namespace in the cluster."
        ),
    ] = "",
    stack: Annotated[
        str, typer.Option(envvar="TRADE2026_STACK", show_default=False, help="Its name, if there are several.")
    ] = "",
) -> None:
    """Without --context, --namespace and --stack, a stack of this machine is meant."""
    wanted = target.InCluster(context, namespace, stack)
    is_meant = wanted != target.InCluster() or ctx.find_root().info_name == PLUGIN
    if is_meant and ctx.invoked_subcommand in _HERE_ONLY:
        raise CliError(
            f"`{ctx.invoked_subcommand}` is about this machine; in a cluster use kubectl: kubectl apply -f MANIFEST",
            USAGE,
        )
    target.mean(wanted if is_meant else None)


_STACK, _TRADE, _RISK, _LOG, _DATA, _TOOLS = "Stack", "Trading", "Risk", "The log", "Data", "Tools"

app.command("up", rich_help_panel=_STACK, no_args_is_help=True)(run.up)
app.command("apply", rich_help_panel=_STACK, no_args_is_help=True)(run.apply)
app.command("down", rich_help_panel=_STACK)(run.down)
app.command("status", rich_help_panel=_STACK)(run.status)
app.add_typer(monitoring.app, name="monitoring", rich_help_panel=_STACK)
app.command("validate", rich_help_panel=_STACK, no_args_is_help=True)(manifests.validate)
app.command("plan", rich_help_panel=_STACK, no_args_is_help=True)(manifests.plan)
app.add_typer(orders.app, name="order", rich_help_panel=_TRADE)
app.add_typer(parents.app, name="parent", rich_help_panel=_TRADE)
app.command("positions", rich_help_panel=_TRADE)(accounts.positions)
app.command("pnl", rich_help_panel=_TRADE)(accounts.pnl)
app.add_typer(cache.app, name="cache", rich_help_panel=_TRADE)
app.command("query", rich_help_panel=_TRADE, no_args_is_help=True)(query.query)
app.add_typer(strategy.app, name="strategy", rich_help_panel=_TRADE)
app.add_typer(risk.limits, name="limits", rich_help_panel=_RISK)
app.command("kill", rich_help_panel=_RISK)(risk.kill)
app.command("resume", rich_help_panel=_RISK)(risk.resume)
app.command("trace", rich_help_panel=_LOG)(log.trace)
app.add_typer(log.events, name="events", rich_help_panel=_LOG)
app.command("replay", rich_help_panel=_LOG)(log.replay)
app.command("backup", rich_help_panel=_LOG, no_args_is_help=True)(data.backup)
app.command("restore", rich_help_panel=_LOG, no_args_is_help=True)(data.restore)
app.command("migrate", rich_help_panel=_LOG, no_args_is_help=True)(migrate.migrate)
app.add_typer(audit.app, name="audit", rich_help_panel=_LOG)
app.add_typer(lake.app, name="lake", rich_help_panel=_DATA)
app.add_typer(cluster.app, name="cluster", rich_help_panel=_TOOLS)
app.command("doctor", rich_help_panel=_TOOLS)(doctor.doctor)
app.add_typer(keys.app, name="keys", rich_help_panel=_TOOLS)
app.command("serve", rich_help_panel=_TOOLS, no_args_is_help=True)(serve.serve)
