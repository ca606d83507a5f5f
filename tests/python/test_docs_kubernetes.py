"""A cluster takes the manifest and the commands of ``docs/deployment/kubernetes.md``, and its pods deliver.

Goal: whoever applies the manifest has pods whose rows land, and whose logs outlive them.
Method: both are taken from the page and run in a namespace of their own, which is deleted afterwards. The
pods reach a local Zerobus through proxies, at the address from which this machine reaches their node.

It runs where ``kubectl`` reaches a cluster that has the image of ``docs/deployment/container.md`` with
``PROGRAM`` as its ``events.py``, under the name that stands on the page or in ``KUBERNETES_IMAGE``;
``python tests/python/test_docs_kubernetes.py > events.py`` writes the program. Where no storage class is the
default, ``KUBERNETES_STORAGE_CLASS`` names one. Elsewhere it is skipped: no cluster has that image by chance,
so nothing is made in one that is there for something else.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

sys.path.insert(0, str(Path(__file__).parents[2] / "chaos-tests"))

from arrow_zerobus_sdk_wrapper.emulator import Emulator
from chaos.faults.proxy import Proxy, Refuse
from conftest import COLUMNS, TABLE
from docs_blocks import blocks_of, blocks_run_by, commands_of
from docs_program import PROGRAM
from docs_setups import SERVICE_HOST, WORKSPACE_HOST
from docs_world import World

MARK = "test_docs_kubernetes.py::test_pods_deliver_and_the_log_of_one_that_is_scaled_away_waits_for_it"
# What stands on the page for things of this run.
IMAGE = "registry.example.com/events:1"
SECRET_FILE = "/etc/events/secret"
ACCESS_MODES = "accessModes: [ReadWriteOncePod]"
SECRET = "s3cret"
# An image may have to be pulled, and a pod may take all its time to end.
DEADLINE_SECS = 300.0


@dataclass
class Cluster:
    """A namespace of a cluster, and the Zerobus for its pods.

    Attributes:
        world: Where commands are run; ``kubectl`` knows the namespace there.
        emulator: The Zerobus.
        way: What its rows go through.
    """

    world: World
    emulator: Emulator
    way: Proxy

    def run(self, command: str) -> str:
        """What a command prints that has to succeed, typed as on the page."""
        done = self.world.run(["bash", "-c", self.world.typed(command)])
        assert done.returncode == 0, f"`{command}` ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def get(self, kind: str) -> list[dict[str, Any]]:
        """The things of a kind that are in the namespace."""
        items: list[dict[str, Any]] = json.loads(self.run(f"kubectl get {kind} --output=json"))["items"]
        return items

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for a condition, with a deadline."""
        deadline = time.monotonic() + DEADLINE_SECS
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.state()}"
            time.sleep(0.2)

    def state(self) -> str:
        """What a person would look at when something is wrong."""
        words = "kubectl logs --selector=app=events --prefix --tail=20"
        return self.world.run(["bash", "-c", f"kubectl describe pods,pvc; {words}"], is_merged=True).stdout

    def has_ready(self, *names: str) -> bool:
        """Whether these pods are there, no others, and all of them are ready."""
        ready = {
            pod["metadata"]["name"]: any(
                (condition["type"], condition["status"]) == ("Ready", "True")
                for condition in pod["status"].get("conditions", [])
            )
            for pod in self.get("pods")
        }
        return ready == dict.fromkeys(names, True)

    def waiting_rows(self, pod: str) -> int:
        """How many rows wait in the log of a pod."""
        said = self.run(f"kubectl exec {pod} -- zerobus-wal status /var/lib/events/wal --format json")
        (log,) = json.loads(said)["logs"]
        return int(log["rows"]["waiting"])

    def claims(self) -> dict[str, tuple[str, str]]:
        """The claims, each with its phase and the name of its volume."""
        return {
            claim["metadata"]["name"]: (claim["status"]["phase"], claim["spec"].get("volumeName", ""))
            for claim in self.get("pvc")
        }

    def landed(self, pod: str) -> dict[str, set[int]]:
        """The numbers of the rows of a pod that are in the table, for each of its processes."""
        rows: dict[str, set[int]] = {}
        for row in DeltaTable(self.emulator.table_path(TABLE)).to_pyarrow_table().to_pylist():
            if row["name"].startswith(f"{pod} "):
                rows.setdefault(row["name"], set()).add(row["id"])
        return rows


def why_not(world: World) -> str | None:
    """What is missing here, and how to get it; None if there is a cluster, which ``world`` knows then."""
    if shutil.which("kubectl") is None:
        return "kubectl is not installed"
    view = ["kubectl", "config", "view", "--raw", "--minify", "--flatten"]
    known = subprocess.run(view, capture_output=True, text=True, timeout=60)
    if known.returncode != 0:
        return "kubectl knows no cluster; make one, with kind for example, and let KUBECONFIG name its file"
    own = world.directory / ".kube" / "config"
    own.parent.mkdir()
    own.touch(mode=0o600)
    own.write_text(known.stdout)
    nodes = world.run(["kubectl", "get", "nodes", "--output=json", "--request-timeout=10s"])
    if nodes.returncode != 0:
        return f"kubectl does not reach its cluster: {nodes.stderr.strip().splitlines()[-1]}"
    status = [node["status"] for node in json.loads(nodes.stdout)["items"]]
    images = [
        name for node in status for image in node.get("images", []) for name in image.get("names") or ()
    ]
    if "KUBERNETES_IMAGE" not in os.environ and IMAGE not in images:
        return (
            f"no node has the image {IMAGE}; build it from docs/deployment/container.md with what "
            f"`python tests/python/{Path(__file__).name}` prints as events.py, and load it into the cluster, "
            "or let KUBERNETES_IMAGE name it in a registry"
        )
    classes = world.run(["kubectl", "get", "storageclasses", "--output=json"]).stdout
    if "KUBERNETES_STORAGE_CLASS" not in os.environ and 'is-default-class": "true"' not in classes:
        return "no storage class is the default; let KUBERNETES_STORAGE_CLASS name one"
    return None


def address_for_pods(world: World) -> str:
    """The address from which this machine reaches a node, and so the one at which pods reach it."""
    path = '{.items[0].status.addresses[?(@.type=="InternalIP")].address}'
    nodes = world.run(["kubectl", "get", "nodes", f"--output=jsonpath={path}"]).stdout.split()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # This asks for the route only: nothing is sent.
        probe.connect((nodes[0], 9))
        return str(probe.getsockname()[0])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    world = World(tmp_path, "empty")
    reason = why_not(world)
    if reason is not None:
        pytest.skip(reason)
    page = blocks_run_by(MARK)[0].page
    (manifest,) = [block.body for block in blocks_of(page) if 'title="events.yaml"' in block.title]
    (client_id,) = re.findall(r"ARROW_ZEROBUS_CLIENT_ID: (\S+)", manifest)
    with ExitStack() as stack:
        emulator = Emulator(
            tmp_path / "tables", tables={TABLE: COLUMNS}, client_id=client_id, client_secret=SECRET
        )
        stack.enter_context(emulator)
        address = address_for_pods(world)
        service, workspace = (
            stack.enter_context(Proxy(int(url.rpartition(":")[2]), seed=1, address=address))
            for url in (emulator.endpoint, emulator.unity_catalog_url)
        )
        world.typed_as = {
            f"https://{SERVICE_HOST}": f"http://{address}:{service.port}",
            f"https://{WORKSPACE_HOST}": f"http://{address}:{workspace.port}",
            IMAGE: os.environ.get("KUBERNETES_IMAGE", IMAGE),
        }
        if "KUBERNETES_STORAGE_CLASS" in os.environ:
            named = f"storageClassName: {os.environ['KUBERNETES_STORAGE_CLASS']}"
            world.typed_as[ACCESS_MODES] = f"{ACCESS_MODES}\n        {named}"
        assert [shown for shown in world.typed_as if shown not in manifest] == []
        (world.directory / "events.yaml").write_text(world.typed(manifest))
        world.typed_as[SECRET_FILE] = str(world.directory / "secret")
        (world.directory / "secret").write_text(SECRET)

        cluster = Cluster(world, emulator, service)
        namespace = f"zerobus-docs-{secrets.token_hex(4)}"
        cluster.run(f"kubectl create namespace {namespace}")
        try:
            cluster.run(f"kubectl config set-context --current --namespace={namespace}")
            yield cluster
        finally:
            # Pods whose rows are taken end at once.
            service.heal()
            cluster.run(f"kubectl delete namespace {namespace} --wait=false")
            gone = f"kubectl get namespace {namespace} --ignore-not-found"
            cluster.until(lambda: cluster.run(gone) == "", f"{namespace} is not deleted")


def test_pods_deliver_and_the_log_of_one_that_is_scaled_away_waits_for_it(cluster: Cluster) -> None:
    applied, scaled_away = blocks_run_by(MARK)
    for command in commands_of(applied):
        cluster.run(command.text)
    pods = ["events-0", "events-1"]
    cluster.until(lambda: cluster.has_ready(*pods), "the pods are not ready")
    cluster.until(lambda: all(cluster.landed(pod) for pod in pods), "the rows of a pod do not land")
    claims = cluster.claims()
    assert {claim: phase for claim, (phase, _) in claims.items()} == {f"log-{pod}": "Bound" for pod in pods}

    cluster.way.set(Refuse())
    cluster.until(lambda: cluster.waiting_rows("events-1") > 0, "no row waits while the service is away")
    follow = ["kubectl", "logs", "--follow", "events-1"]
    world = cluster.world
    with subprocess.Popen(
        follow, cwd=world.directory, env=world.environment, stdout=subprocess.PIPE, text=True
    ) as words:
        try:
            status, scale = (cluster.run(command.text) for command in commands_of(scaled_away))
            # Only a program that ends by itself has last words.
            said, _ = words.communicate(timeout=DEADLINE_SECS)
        finally:
            words.kill()
    assert TABLE in status
    assert "scaled" in scale
    ((name, stored),) = re.findall(r"^ended (events-1 \w+) (\d+)$", said, re.MULTILINE)
    cluster.until(lambda: cluster.has_ready("events-0"), "there is another pod than events-0")
    assert cluster.claims() == claims

    before = cluster.landed("events-0")
    cluster.way.heal()
    cluster.until(lambda: cluster.landed("events-0") != before, "the pod that is left does not deliver")
    rows = set(range(int(stored)))
    assert cluster.landed("events-1")[name] < rows
    cluster.run("kubectl scale --replicas=2 statefulset/events")
    cluster.until(lambda: cluster.has_ready(*pods), "the pod does not come back")
    cluster.until(lambda: cluster.landed("events-1")[name] == rows, "what waited does not land")
    assert cluster.claims() == claims


if __name__ == "__main__":
    sys.stdout.write(PROGRAM)
