"""A real API server takes the overlays, and what the injector makes of workloads."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml
from kinds import EASTWALL, ROOT, documents


@pytest.mark.parametrize("overlay", ["sidecar", "node", "both", "audit-only"])
def test_overlays_are_accepted(api, overlay):
    """Their namespaces first: a dry run keeps none. Without a controller its webhooks would refuse policies: they stay dry."""
    for namespace in ("eastwall-system", "eastwall-node"):
        api.kubectl("create", "namespace", namespace)
    done = api.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", str(ROOT / "deploy" / "overlays" / overlay))
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr


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
