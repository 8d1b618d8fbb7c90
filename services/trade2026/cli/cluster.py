"""`cluster`: Kubernetes on this machine, for those without kind."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trade2026.cli.output import FAILED, USAGE, AsJson, CliError, print_json, show, show_fields

if TYPE_CHECKING:
    from trade2026.local.cluster.place import Place

app = typer.Typer(help="A Kubernetes cluster of one node on this machine.", no_args_is_help=True)

ClusterPath = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="TRADE2026_CLUSTER_DIR",
        show_default=False,
        help="State directory of the cluster; ~/.local/state/trade2026/cluster if omitted.",
    ),
]
ImageName = Annotated[str, typer.Option("--name", help="Name and tag of the image; by default our version's.")]


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    from trade2026.local.cluster.place import ClusterError

    try:
        yield
    except ClusterError as error:
        raise CliError(str(error), FAILED) from error


def _place(path: Path | None) -> "Place":
    from trade2026.local.cluster.place import Place

    return Place.at(path)


def _progress(text: str) -> None:
    typer.echo(text, err=True)


@app.command("up")
def up(
    state_dir: ClusterPath = None,
    timeout: Annotated[float, typer.Option(help="Seconds it may take to be ready.", min=1)] = 120.0,
    with_metrics: Annotated[
        bool,
        typer.Option(
            "--metrics-server", help="With the server that `kubectl top` and an HPA on CPU ask; built once, too."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the cluster, or the one that was stopped with --keep; its programs are built first, once. Needs root.

    Examples:

    trade2026 cluster up

    trade2026 cluster up --metrics-server
    """
    from trade2026.local.cluster import cluster, metrics_server

    with _telling():
        place = _place(state_dir)
        seconds = cluster.up(place, _progress, timeout)
        if with_metrics:
            metrics_server.install(place, _progress)
    told = {"state": str(place.state), "kubeconfig": str(place.kubeconfig), "seconds": round(seconds, 1)}
    when = f"ready after {seconds:.1f} s" if seconds else "up already"
    show(told, as_json, f"the cluster is {when}; try: trade2026 cluster run -- kubectl get nodes")


@app.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    command: Annotated[
        list[str], typer.Argument(help="The command and its arguments, after `--`.", show_default=False)
    ],
    state_dir: ClusterPath = None,
    as_json: AsJson = False,
) -> None:
    """Run a command in the cluster's network, with kubectl and helm set up for it; files stay yours.

    Examples:

    trade2026 cluster run -- kubectl get pods --all-namespaces

    trade2026 cluster run -- helm list
    """
    from trade2026.local.cluster import cluster

    with _telling():
        cluster.run(_place(state_dir), command)


@app.command("load")
def load(
    archive: Annotated[
        Path | None, typer.Argument(help="The image as an archive; the platform's own if omitted.", show_default=False)
    ] = None,
    state_dir: ClusterPath = None,
    as_json: AsJson = False,
) -> None:
    """Import an image into the cluster; without an archive, build the platform's own and import that.

    Examples:

    trade2026 cluster load

    trade2026 cluster load strategy.tar
    """
    import tempfile

    from trade2026.local.cluster import cluster, image

    if archive is not None and not archive.is_file():
        raise CliError(f"{archive} is no file: name an archive, or none for the platform's own image", USAGE)
    with _telling(), tempfile.TemporaryDirectory() as work:
        place = _place(state_dir)
        if archive is None:
            archive = Path(work) / "trade2026.tar"
            image.build(archive, _progress, without=cluster.contents(place))
        names = cluster.load(place, archive)
    show({"images": names}, as_json, "\n".join(f"{name} is in the cluster" for name in names))


@app.command("image")
def make_image(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the archive goes.")] = Path("trade2026.tar"),
    name: ImageName = "",
    as_json: AsJson = False,
) -> None:
    """Build the platform's image as an archive, without Docker: the same files give the same digest.

    Example: trade2026 cluster image --output trade2026.tar
    """
    from trade2026.local.cluster import image

    chosen = name or image.NAME
    with _telling():
        digest = image.build(output, _progress, chosen)
    told = {"name": chosen, "digest": digest, "bytes": output.stat().st_size, "file": str(output)}
    show(told, as_json, f"{chosen} ({digest}, {told['bytes'] / 1e6:.0f} MB) is in {output}")


@app.command("status")
def status(state_dir: ClusterPath = None, as_json: AsJson = False) -> None:
    """Show whether the cluster is up, what it waits for, and what is in it.

    Example: trade2026 cluster status
    """
    from trade2026.local.cluster import cluster

    with _telling():
        told = cluster.status(_place(state_dir))
    if as_json:
        print_json(told)
    else:
        pods = told.get("pods", {})
        nodes = [f"{node['name']}{'' if node['ready'] else ' (not ready)'}" for node in told.get("nodes", [])]
        show_fields(
            {
                "cluster": "ready" if told.get("ready") else "not ready" if told["up"] else "not up",
                "waits for": ", ".join(told.get("waits_for", [])),
                "kubernetes": told.get("kubernetes"),
                "nodes": ", ".join(nodes),
                "pods": f"{pods['ready']} of {pods['all']} ready" if pods else "",
                "state": told["state"],
                "programs": told.get("programs"),
            }
        )
    if not told.get("ready"):
        raise typer.Exit(FAILED)


@app.command("kill")
def kill(
    components: Annotated[list[str], typer.Argument(help="Such as etcd or kube-apiserver.", show_default=False)],
    state_dir: ClusterPath = None,
    as_json: AsJson = False,
) -> None:
    """End components of the cluster with SIGKILL, to see what comes of it; they start again by themselves.

    Example: trade2026 cluster kill etcd kube-apiserver
    """
    from trade2026.local.cluster import cluster

    with _telling():
        cluster.kill(_place(state_dir), components)
    show({"killed": components}, as_json, f"killed: {', '.join(components)}")


@app.command("down")
def down(
    state_dir: ClusterPath = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave what is in it for the next `up`.")] = False,
    as_json: AsJson = False,
) -> None:
    """End the cluster and everything in it; without --keep it is gone for good.

    Example: trade2026 cluster down
    """
    from trade2026.local.cluster import cluster

    with _telling():
        place = _place(state_dir)
        ended = cluster.down(place, keep)
    kept = "is kept" if keep else "is removed"
    text = f"the cluster is down; its state in {place.state} {kept}" if ended else f"no cluster is in {place.state}"
    show({"state": str(place.state), "ended": ended}, as_json, text)
