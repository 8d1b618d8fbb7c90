"""`python -m trade2026_operator.slo`: the metrics server, which tells HPAs, and KEDA, how many replicas are needed."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trade2026_operator.helm.releases import REPLICAS_METRIC
from trade2026_operator.kube import HttpKube, access_of
from trade2026_operator.slo.external_scaler import ExternalScaler
from trade2026_operator.slo.leader_source import LeaderSource
from trade2026_operator.slo.metrics_server import MetricsServer
from trade2026_operator.slo.serving import Serving


def main(words: Sequence[str] | None = None) -> None:
    """The entry point."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    told = _parser().parse_args(words)
    try:
        asyncio.run(_serve(told))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


async def _serve(told: argparse.Namespace) -> None:
    kube = HttpKube(access_of(told.kubeconfig, os.environ))
    serving = Serving(kube, told.certificate)
    server = MetricsServer(REPLICAS_METRIC, lambda: serving.names)
    scaler = ExternalScaler(server.asked)
    try:
        await serving.load()
        await server.listen(told.port, serving.context, told.probes_port)
        if told.scaler_port:
            await scaler.listen(told.scaler_port, serving.scaler_context)
        async with asyncio.TaskGroup() as group:
            group.create_task(serving.keep())
            group.create_task(LeaderSource(told.operators, server.heard).run())
    finally:
        await scaler.close()
        await server.close()
        await kube.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trade2026_operator.slo",
        description=f"Serves {REPLICAS_METRIC} as an external metric.",
        epilog="Example: python -m trade2026_operator.slo --operators http://operators:8080 --certificate /etc/tls",
    )
    parser.add_argument("--operators", required=True, metavar="URL", help="metrics port of the operators, all of them")
    parser.add_argument("--certificate", required=True, type=Path, help="folder with tls.crt and tls.key")
    parser.add_argument("--port", type=int, default=6443)
    parser.add_argument("--scaler-port", type=int, default=0, help="of KEDA's external scaler; 0: none")
    parser.add_argument("--probes-port", type=int, default=8081)
    parser.add_argument("--kubeconfig", type=Path, default=None, help="outside of a cluster")
    return parser


if __name__ == "__main__":
    main()
