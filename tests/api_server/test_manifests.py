"""A real API server takes the overlays, and what the injector makes of workloads."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml
from kinds import EASTWALL, ROOT, documents


def held(cluster, *words) -> dict[str, dict]:
    """What the API server has of what is applied, without what others write: its own bookkeeping, statuses, the authority of webhooks."""
    whole = json.loads(cluster.apply(*words, "-o", "json"))
    found = {}
    for each in whole.get("items", [whole]):
        metadata = {key: value for key, value in each["metadata"].items() if key not in ("managedFields", "resourceVersion")}
        found[f"{each['kind']} {metadata.get('namespace', '')}/{metadata['name']}"] = each | {"metadata": metadata, "status": None}
    return found


def rendered(cluster, *words) -> list[dict]:
    """What is applied, as it is written."""
    if words[0] == "-k":
        return [each for each in yaml.safe_load_all(cluster.api.done("kustomize", str(words[1]))) if each]
    return [each for folder in words[1::2] for path in sorted(folder.glob("*.yaml")) for each in documents(path)]


def native(applied: dict[str, dict]) -> list[list[str]]:
    """The policies among them that have a status, as kubectl names them."""
    ours = [each for each in applied.values() if each["apiVersion"].startswith("eastwall.dev/") and each["kind"] != "PolicyTest"]
    return [[each["kind"].lower(), each["metadata"]["name"], *(["-n", each["metadata"]["namespace"]] if "namespace" in each["metadata"] else [])] for each in ours]


def accepts(cluster, name: list[str]) -> bool:
    """Whether the controller says of a policy as it stands that the compiler takes it."""
    whole = cluster.api.get(*name)
    conditions = {each["type"]: each for each in whole.get("status", {}).get("conditions", [])}
    return conditions["Accepted"]["status"] == "True" and conditions["Accepted"]["observedGeneration"] == whole["metadata"]["generation"]


PACK = ROOT / "deploy" / "packs" / "cluster-doors"
FOLDERS = [("-k", ROOT / "deploy" / name) for name in ["overlays/node", "overlays/both", "overlays/audit-only", "baseline", "samples/shop", "uninstall", "overlays/sidecar"]]


@pytest.mark.parametrize("words", [*FOLDERS, ("-f", PACK / "policies", "-f", PACK / "tests")], ids=lambda words: "-".join(words[1].parts[-2:]))
def test_what_is_applied_is_accepted_and_applying_it_again_changes_nothing(cluster, words):
    """One after the other, as an operator changes from one to another; the last overlay is the one that was there before."""
    done = cluster.api.kubectl("apply", "--server-side", *map(str, words))
    assert done.returncode == 0, done.stderr
    # The compiler's are of names that this cluster has not.
    assert not [line for line in done.stderr.splitlines() if "[EW" not in line]
    cluster.controller.until("the API server trusts all webhooks", cluster.trusted)
    first = held(cluster, *words)
    assert first == held(cluster, *words)
    for said in rendered(cluster, *words):
        # Nothing of another overlay is left in it.
        if "webhooks" in said:
            now = first[f"{said['kind']} /{said['metadata']['name']}"]
            assert [each["name"] for each in now["webhooks"]] == [each["name"] for each in said["webhooks"]]
        if "mode" in said.get("spec", {}) or said["kind"] == "ClusterFirewallPolicy":
            assert first[f"{said['kind']} /{said['metadata']['name']}"]["spec"] == said["spec"]
    policies = native(first)
    assert policies or words[1].name == "uninstall"
    for name in policies:
        cluster.controller.until(f"{name} is accepted", lambda name=name: accepts(cluster, name))
    if words[1].parent.name in ("samples", PACK.name):
        for name in policies:
            cluster.api.done("delete", *name)


def test_the_controller_is_admitted_at_the_level_restricted(api):
    api.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy" / "base" / "namespace.yaml"))
    [deployment] = [each for each in documents(ROOT / "deploy" / "base" / "controller.yaml") if each["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c", "namespace": "eastwall-system"}, "spec": template["spec"]}
    done = api.put(pod, "--dry-run=server")
    assert done.returncode == 0, done.stderr
    template["spec"]["containers"][0]["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"]}
    assert "violates PodSecurity" in api.put(pod, "--dry-run=server").stderr


WORKLOADS = sorted((ROOT / "deploy" / "injector" / "tests" / "workloads").glob("*.yaml"))


@pytest.mark.parametrize("path", [path for path in WORKLOADS if not path.stem.startswith("refused")], ids=lambda path: path.stem)
def test_injected_objects_are_accepted_and_injecting_what_comes_back_changes_nothing(api, path):
    """With all that the API writes into it by default."""
    done = subprocess.run([EASTWALL, "inject", "-f", path, "--image", "registry.example/eastwall:1.0.0"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for each in yaml.safe_load_all(done.stdout):
        for item in each.get("items", [each]):
            item = {"apiVersion": "v1", "kind": "Pod"} | item
            if item["kind"] == "Rollout":
                continue
            namespace = item["metadata"].setdefault("namespace", "default")
            api.kubectl("create", "namespace", namespace)
            # Only a kubelet makes mirror pods.
            if path.stem == "mirror-pod":
                continue
            if item["kind"] == "Pod":
                # As the plugin does that is turned off here.
                item["spec"].setdefault("serviceAccountName", "default")
            made = api.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", text=json.dumps(item))
            assert made.returncode == 0, made.stderr
            stored = json.loads(made.stdout)
            again = subprocess.run([EASTWALL, "inject", "--image", "registry.example/eastwall:1.0.0"], input=made.stdout, capture_output=True, text=True)
            assert again.returncode == 0 and json.loads(again.stdout) == stored, again.stderr
