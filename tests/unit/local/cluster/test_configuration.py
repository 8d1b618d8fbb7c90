"""What the components read, and the script that starts them."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import yaml

from trade2026.local.cluster import configuration
from trade2026.local.cluster.cluster import COMPONENTS
from trade2026.local.cluster.place import INIT, Place

PLACE = Place(Path("/state"))


def test_every_file_is_of_its_format_and_names_the_state_directory() -> None:
    made = configuration.documents(PLACE)
    assert tomllib.loads(made["containerd.toml"])["grpc"]["address"] == "/state/run/containerd.sock"
    assert json.loads(made["cni/10-pods.conflist"])["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.201.0.0/16"}]]
    kubelet = yaml.safe_load(made["kubelet.yaml"])
    assert kubelet["cgroupRoot"] == f"/{PLACE.cgroup}"
    assert kubelet["clusterDNS"] == ["10.200.0.1"]
    assert "kubeconfig /state/coredns.conf" in made["Corefile"]
    assert not any("$" in text for text in made.values())


def test_volumes_are_there_to_be_claimed_each_in_a_folder_of_its_own() -> None:
    documents = list(yaml.safe_load_all(configuration.documents(PLACE)["base.yaml"]))
    paths = [each["spec"]["local"]["path"] for each in documents if each["kind"] == "PersistentVolume"]
    assert len(set(paths)) == configuration.VOLUMES
    assert all(path.startswith("/state/volumes/") for path in paths)
    (storage,) = [each for each in documents if each["kind"] == "StorageClass"]
    assert storage["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}


def test_the_script_starts_every_component_and_reads_only_what_it_is_given() -> None:
    text = INIT.read_text()
    subprocess.run(["bash", "-n", str(INIT)], check=True, timeout=60)
    assert sorted(re.findall(r"^keep ([\w-]+) ", text, re.MULTILINE)) == sorted((*COMPONENTS, "volumes"))
    given = set(configuration.init_environment(PLACE, "/programs"))
    assert set(re.findall(r"\$\{?([A-Z][A-Z_]+)", text)) == given
