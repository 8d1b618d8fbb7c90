"""An order service full of open orders: it refuses more while it can still recover, instead of being killed for ever."""

import json
import urllib.error
import urllib.request
from typing import Any

from e2e.cluster import Cluster, wait_for
from e2e.scaling import PORT, RELEASE, Load, objects_of, values_of
from e2e.soak import soak

END = "import os, signal; os.kill(1, signal.SIGTERM)"


@soak
def test_a_container_full_of_open_orders_refuses_more_is_not_killed_and_recovers_within_its_limit(
    cluster: Cluster, namespace: str
) -> None:
    values = values_of(cluster.image, "500m", 2)
    values["containers"][0]["resources"]["limits"]["memory"] = "160Mi"
    values["autoscaling"]["enabled"] = False
    objects = objects_of(cluster, namespace, values)
    cluster.kubectl("apply", "--server-side", "--field-manager=helm", "-f", "-", "-n", namespace, given=objects)

    def pod() -> dict[str, Any]:
        (found,) = cluster.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/instance={RELEASE}")["items"]
        return found

    def container() -> dict[str, Any]:
        found = pod().get("status", {}).get("containerStatuses", [])
        return found[0] if found else {"ready": False, "restartCount": 0}

    def memory() -> str:
        url = f"http://{pod()['status']['podIP']}:{PORT}/health"
        try:
            answer = urllib.request.urlopen(url, timeout=10)
        except urllib.error.HTTPError as error:  # it is not well, and says why
            answer = error
        with answer:
            return json.load(answer)["checks"]["memory"]["status"]

    wait_for("it is ready", lambda: container()["ready"])
    load = Load(cluster, namespace, senders=6)
    try:
        wait_for("it refuses new orders", lambda: memory() == "failed", 240)
        many = len(load.seconds)
        wait_for("as many again are sent", lambda: len(load.seconds) > 2 * many, 240)
    finally:
        load.close()
    assert container()["restartCount"] == 0
    cluster.kubectl("exec", "-n", namespace, pod()["metadata"]["name"], "--", "python3.11", "-c", END)
    wait_for("it was ended", lambda: container()["restartCount"] == 1)
    wait_for("it has recovered", lambda: container()["ready"], 240)
    assert container()["restartCount"] == 1, "and in one go"
