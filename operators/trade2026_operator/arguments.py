"""The command line of the operator, as its chart writes it."""

import argparse
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trade2026 import __version__
from trade2026_operator.helm.charts import charts_folder
from trade2026_operator.helm.releases import Cluster
from trade2026_operator.slo.demand import EASE_SECONDS

_LEVELS = ("debug", "info", "warning", "error")
_SCHEDULING = {"nodeSelector": dict, "tolerations": list, "priorityClassName": str}


@dataclass(frozen=True)
class Arguments:
    """What an operator is told.

    Attributes:
        namespaces: It keeps stacks of these; none: of all.
        lease: Namespace and name of the Lease by which one of several leads.
        identity: Of this operator among several.
        kubeconfig: How it gets in; None: as the service account of its pod.
        probes_port: Of `/livez` and `/readyz`; 0: none.
        metrics_port: Of `/metrics`; 0: none.
        metrics_server: Namespace and name of the Service of the metrics server; None: there is none.
        metrics_owner: Cluster role with which the API of external metrics is to go; empty: none.
        metrics_withdraw_seconds: After so many without an answer of the metrics server its API is withdrawn.
        keda_namespace: Where KEDA runs, which serves external metrics then; empty: this operator offers them.
        scaling_ease_seconds: In which a need of replicas is forgotten, to a third of it.
        otlp_endpoint: Where traces of reconciles go; empty: nowhere.
        cluster: What stacks are given.
    """

    namespaces: tuple[str, ...]
    lease: tuple[str, str]
    identity: str
    kubeconfig: Path | None
    charts: Path
    helm: Path
    probes_port: int
    metrics_port: int
    log_level: str
    metrics_server: tuple[str, str] | None
    metrics_owner: str
    metrics_withdraw_seconds: float
    keda_namespace: str
    scaling_ease_seconds: float
    otlp_endpoint: str
    cluster: Cluster


def read(words: Sequence[str] | None = None) -> Arguments:
    """Read the command line; what is wrong with it ends the process with a message."""
    told = _parser().parse_args(words)
    namespace, _, name = told.lease.rpartition("/")
    return Arguments(
        namespaces=tuple(told.namespace),
        lease=(namespace or "default", name),
        identity=told.identity,
        kubeconfig=told.kubeconfig,
        charts=told.charts,
        helm=told.helm,
        probes_port=told.probes_port,
        metrics_port=told.metrics_port,
        log_level=told.log_level,
        metrics_server=(server[0], server[2]) if (server := told.metrics_server.partition("/"))[2] else None,
        metrics_owner=told.metrics_owner,
        metrics_withdraw_seconds=told.metrics_withdraw_seconds,
        keda_namespace=told.keda_namespace,
        scaling_ease_seconds=told.scaling_ease_seconds,
        otlp_endpoint=told.otlp_endpoint,
        cluster=Cluster(
            image_repository=told.stack_image,
            pull_policy=told.stack_pull_policy,
            storage_class=told.stack_storage_class,
            storage_size=told.stack_storage_size,
            ephemeral=told.stack_ephemeral,
            pull_secrets=tuple(told.stack_pull_secret),
            env_secrets=tuple(told.stack_env_secret),
            files_secret=told.stack_files_secret,
            scheduling=told.stack_scheduling,
            keda_scaler=told.keda_scaler,
            keda_authentication=told.keda_authentication,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trade2026_operator",
        description="Keeps every TradingStack of a cluster as its manifest says.",
        epilog="Example: python -m trade2026_operator --kubeconfig ~/.kube/config --namespace trading",
    )
    parser.add_argument("--namespace", action="append", default=[], help="keep stacks of this one only; again for more")
    parser.add_argument("--lease", default="default/trade2026-operator", metavar="NAMESPACE/NAME")
    parser.add_argument("--identity", default=socket.gethostname(), help="of this operator among several")
    parser.add_argument("--kubeconfig", type=Path, default=None, help="outside of a cluster")
    parser.add_argument("--charts", type=Path, default=charts_folder(), help="folder with the chart of services")
    parser.add_argument("--helm", type=Path, default=Path("helm"), help="Helm 4, which renders")
    parser.add_argument("--probes-port", type=int, default=0)
    parser.add_argument("--metrics-port", type=int, default=0)
    parser.add_argument("--log-level", choices=_LEVELS, default="info")
    parser.add_argument("--metrics-server", default="", metavar="NAMESPACE/NAME", help="Service of the metrics server")
    parser.add_argument(
        "--metrics-withdraw-seconds", type=float, default=60.0, help="withdraw external metrics when nobody answers"
    )
    parser.add_argument("--metrics-owner", default="", help="cluster role with which external metrics are to go")
    parser.add_argument(
        "--keda-scaler", default="", metavar="HOST:PORT", help="external scaler: autoscalers are KEDA's ScaledObjects"
    )
    parser.add_argument("--keda-authentication", default="", help="ClusterTriggerAuthentication of its certificate")
    parser.add_argument("--keda-namespace", default="", help="where KEDA runs, and is told the certificate's authority")
    parser.add_argument(
        "--scaling-ease-seconds", type=float, default=EASE_SECONDS, help="forget that more replicas were needed"
    )
    parser.add_argument("--stack-image", default="trade2026", help="repository of the image that stacks run")
    parser.add_argument("--stack-pull-policy", choices=("Always", "IfNotPresent", "Never"), default="IfNotPresent")
    parser.add_argument("--stack-storage-class", default="", help="of volumes; empty: the cluster's default")
    parser.add_argument("--stack-storage-size", default="10Gi")
    parser.add_argument("--stack-ephemeral", action="store_true", help="keep nothing when a pod goes")
    parser.add_argument(
        "--stack-pull-secret",
        action="append",
        default=[],
        metavar="SECRET",
        help="of the image's registry; again for more",
    )
    parser.add_argument(
        "--stack-env-secret",
        action="append",
        default=[],
        metavar="SECRET",
        help="its keys become variables; again for more",
    )
    parser.add_argument("--stack-files-secret", default="", metavar="SECRET", help="files that manifests name")
    parser.add_argument(
        "--stack-scheduling",
        type=_scheduling,
        default={},
        metavar="JSON",
        help="where pods may run: an object with any of " + ", ".join(_SCHEDULING),
    )
    parser.add_argument(
        "--otlp-endpoint", default=os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""), help="a trace of each reconcile"
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _scheduling(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(given, dict):
        raise argparse.ArgumentTypeError(f"an object with any of {', '.join(_SCHEDULING)}")
    for name, value in given.items():
        if name not in _SCHEDULING or not isinstance(value, _SCHEDULING[name]):
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(_SCHEDULING)}, or not as a pod has it")
    return given
