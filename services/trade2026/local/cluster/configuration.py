"""What the components read, made from the files beside this one for one cluster."""

from string import Template
from typing import Any

import yaml

from trade2026.local.cluster.place import FILES, NODE, NODE_IP, POD_CIDR, SERVICE_CIDR, Place

VOLUMES = 32
"""Volumes that are there to be claimed. Each is a folder: Kubernetes itself makes none, and the platform needs few."""
VOLUME_SIZE = "10Gi"
"""What a volume says it holds; nothing enforces it."""
_TEMPLATES = {
    "containerd.toml": "containerd.toml",
    "pods.conflist": "cni/10-pods.conflist",
    "kubelet.yaml": "kubelet.yaml",
    "Corefile": "Corefile",
    "base.yaml": "base.yaml",
}
"""The files beside this one, and where each goes in the state directory."""


def documents(place: Place) -> dict[str, str]:
    """The text of each file, by its path in the state directory."""
    words = {
        "state": str(place.state),
        "cgroup": place.cgroup,
        "node_ip": NODE_IP,
        "pod_cidr": POD_CIDR,
        "service_cidr": SERVICE_CIDR,
    }
    made = {
        target: Template((FILES / "files" / source).read_text()).substitute(words)
        for source, target in _TEMPLATES.items()
    }
    made["base.yaml"] += "".join(f"---\n{yaml.safe_dump(volume, sort_keys=False)}" for volume in volumes(place))
    return made


def volumes(place: Place) -> list[dict[str, Any]]:
    """Volumes of the class `local`. Unlike those of the type `hostPath`, they heed a pod's `fsGroup`."""
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": path.name},
            "spec": {
                "capacity": {"storage": VOLUME_SIZE},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "local",
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": str(path)},
                "nodeAffinity": {
                    "required": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
                                ]
                            }
                        ]
                    }
                },
            },
        }
        for path in (place.state / "volumes" / f"local-{number:02}" for number in range(VOLUMES))
    ]


def init_environment(place: Place, programs: str) -> dict[str, str]:
    """What `init.sh` reads."""
    return {
        "PROGRAMS": programs,
        "NODE": NODE,
        "NODE_IP": NODE_IP,
        "POD_CIDR": POD_CIDR,
        "SERVICE_CIDR": SERVICE_CIDR,
    }
