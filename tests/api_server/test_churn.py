"""Pods that come and go, a hundred a second: the controller follows within a second, in bounded memory, and so does a proxy behind it."""

from __future__ import annotations

import bisect
import http.client
import json
import ssl
import threading
import time

import pytest
from kinds import ROOT
from lab.api_server import ApiServer, free_port
from lab.controller import Controller
from lab.firewall import binary
from lab.namespace import HOME
from lab.program import Program, until

RATE = 100
SECONDS = 15
LIFE = 5.0
RUNS = 10
WORKERS = 8
LAG = 1.0
MEGABYTES = 150
GROWTH = 10


@pytest.fixture
def api(folder, ending):
    made = ApiServer(folder)
    ending.callback(made.stop)
    for namespace in ["eastwall-system", "shop"]:
        made.done("create", "namespace", namespace)
    made.install(ROOT / "deploy" / "crds", ROOT / "deploy" / "base" / "rbac.yaml")
    return made


class Client(threading.Thread):
    """Makes and removes every WORKERS-th pod at its time, and notes when the API server had done it. Some of them get an address."""

    def __init__(self, port: int, first: int, start: float):
        super().__init__()
        self.port, self.first, self.begin = port, first, start
        self.made: list[float] = []
        self.removed: list[float] = []
        self.failed: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=ssl._create_unverified_context(), timeout=20)
        steps = []
        for number in range(self.first, RATE * SECONDS, WORKERS):
            due = self.begin + number / RATE
            steps += [(due, "POST", number), (due + LIFE, "DELETE", number)] + ([(due, "PATCH", number)] if number % RUNS == 0 else [])
        for due, method, number in sorted(steps, key=lambda step: (step[0], step[1] != "POST")):
            time.sleep(max(0.0, due - time.monotonic()))
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}", "labels": {"app": "orders"}, "annotations": {"note": "x" * 1_000}},
                    "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "E", "value": "y" * 1_000}]}]}}
            path = "/api/v1/namespaces/shop/pods"
            if method == "DELETE":
                path, body = f"{path}/p{number}", {"gracePeriodSeconds": 0}
            if method == "PATCH":
                address = f"10.8.{number // 250}.{number % 250 + 1}"
                path, body = f"{path}/p{number}/status", {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            connection.request(method, path, json.dumps(body), {"authorization": "Bearer admin-token", "content-type": kind})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                self.failed.append(f"{method} {answer.status} {text[:200]!r}")
            (self.removed if method == "DELETE" else self.made).append(time.monotonic())


def proxy(api, controller, folder, ending) -> Program:
    """A proxy that has its slice."""
    api.done("create", "serviceaccount", "orders", "-n", "shop")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orders", "namespace": "shop", "labels": {"app": "orders"}},
           "spec": {"serviceAccountName": "orders", "nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}}
    rule = {"from": [{"pods": {"matchLabels": {"app": "orders"}}}], "http": [{"paths": ["/**"]}]}
    policy = {"apiVersion": "eastwall.dev/v1alpha1", "kind": "FirewallPolicy", "metadata": {"name": "orders", "namespace": "shop"},
              "spec": {"subject": [{"serviceAccount": "orders"}], "ingress": [rule]}}
    for document in (pod, policy):
        assert api.put(document).returncode == 0
    (folder / "ca.crt").write_text(controller.roots())
    (folder / "token").write_text(api.token("shop", "orders", "orders"))
    command = [binary(), "proxy", "--mode=gateway", f"--listen=127.0.0.1:{free_port()}", "--upstream=127.0.0.2:8080", "--access-log=off", "--workers=2",
               f"--admin-socket={folder / 'socket'}", *controller.flags(folder, "shop", "orders")]
    made = Program(HOME, command, folder, "proxy")
    ending.callback(made.stop)
    until((folder / "state" / "identity" / "tls.crt").exists, "the proxy has its slice and certificate")
    return made


def test_pods_that_come_and_go_are_followed(api, folder, ending):
    controller = Controller(api, "churn")
    ending.callback(controller.kill)
    controller.ready()
    follower = proxy(api, controller, folder, ending)
    before = follower.memory()
    series = ['eastwall_controller_changes_total{change="put",kind="Pod"}', 'eastwall_controller_changes_total{change="delete",kind="Pod"}']
    already = [controller.metric(name) for name in series]
    count = RATE * SECONDS
    workers = [Client(api.port, first, time.monotonic() + 0.5) for first in range(WORKERS)]
    for worker in workers:
        worker.start()
    samples: list[tuple[float, list[float]]] = []
    most = grown = 0
    end = time.monotonic() + SECONDS + LIFE + 30
    while not samples or samples[-1][1][1] < count:
        values = [controller.metric(name) - begun for name, begun in zip(series, already, strict=True)]
        samples.append((time.monotonic(), values))
        most, grown = max(most, controller.program.memory()), max(grown, follower.memory() - before)
        assert time.monotonic() < end, f"{values} of {count} are known\n{controller.program.text()[-3000:]}"
        time.sleep(0.02)
    for worker in workers:
        worker.join()
    assert not any(worker.failed for worker in workers), workers[0].failed[:3]
    made, removed = (sorted(sum((getattr(worker, name) for worker in workers), [])) for name in ["made", "removed"])
    assert (len(made), len(removed)) == (count + count // RUNS, count)
    # A removal may change a pod before it is gone, which counts too: from then on a count says nothing of one pod.
    for which, done in [(0, made[: int(RATE * LIFE)]), (1, removed)]:
        # The number-th change was known when the counter had reached it.
        reached = [values[which] for _, values in samples]
        lags = sorted(samples[bisect.bisect_left(reached, number + 1)][0] - at for number, at in enumerate(done))
        p99 = lags[int(len(lags) * 0.99)]
        print(f"{series[which]}: p50 {lags[len(lags) // 2]:.3f} s, p99 {p99:.3f} s; {done[-1] - done[0]:.1f} s for {len(done)}")
        assert p99 < LAG, f"{series[which]}: {p99:.3f} s"
    assert made[-1] - made[0] < SECONDS * 1.3, "the API server itself was too slow for this rate"
    print(f"the controller has at most {most / 1e6:.0f} MB; the proxy grows by {grown / 1e6:.1f} MB, from {before / 1e6:.1f} MB")
    assert most < MEGABYTES * 1_000_000, f"{most / 1e6:.0f} MB"
    assert grown < GROWTH * 1_000_000, f"{grown / 1e6:.1f} MB"
    assert controller.objects("Pod") == 1
    held = lambda: sum(path.read_text().count('"kind":"Pod"') for path in (folder / "state" / "current" / "objects").rglob("*.json"))
    until(lambda: held() == 1, "the proxy knows none of those that are gone", LAG)
