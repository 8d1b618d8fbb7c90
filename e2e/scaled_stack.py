"""A stack whose order service scales by its objective, and shares its partitions: with a fifth of a core, it soon has to."""

from typing import Any

from e2e.desk import manifest

from trade2026.local.infra.kafka import Kafka

PARTITIONS, MOST = 4, 3
ACCOUNTS = tuple(f"load-{number}" for number in range(16))
"""So many that each partition has some."""
WORKLOAD = "desk-oms"
QUICK = {
    "stabilizationWindowSeconds": 10,
    "policies": [{"type": "Pods", "value": 2, "periodSeconds": 5}],
}
"""How fewer pods are made here; by itself the HPA takes five minutes and more."""
EASE_SECONDS = 30
"""How fast a need is forgotten here; by itself the operator takes ten minutes, to a third."""
SCALE_SECONDS_MAX = 240.0
LOOK_SECONDS = 1.0
"""Who asks takes CPU from who is asked about."""
_OTHERS = [
    {"kind": "HorizontalPodAutoscaler", "paths": ["/spec/behavior"]},
    {"kind": "ScaledObject", "paths": ["/spec/advanced"]},
]


def wanted(broker: Kafka, most: int) -> dict[str, Any]:
    """One order service, and more of them so that 99 of 100 answers take 250 ms at most."""
    oms = {
        "replicas": {"min": 1, "max": most},
        "slo": {"latency": [{"quantile": 0.99, "under": "250ms"}]},
        "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}},
    }
    stack = manifest()
    stack["spec"] |= {
        "bus": {"type": "kafka", "partitions": PARTITIONS, "kafka": {"bootstrapServers": broker.address}},
        "placement": "spread",
        "services": {"oms": oms},
        "driftIgnore": _OTHERS,
    }
    return stack
