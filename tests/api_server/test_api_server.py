"""A real API server, of KUBEBUILDER_ASSETS: it takes the definitions, accepts what the compiler accepts, refuses what they refuse, and tells tiers apart."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from kinds import EASTWALL, ROOT, accepted, documents

ASSETS = Path(os.environ["KUBEBUILDER_ASSETS"])
SECONDS = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Api:
    """etcd and the API server, on loopback, in a folder of their own."""

    def __init__(self, folder: Path):
        etcd, self.port = free_port(), free_port()
        self.folder = folder
        key = folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text('admin-token,admin,admin,"system:masters"\n')
        store = f"http://127.0.0.1:{etcd}"
        self.processes = [
            self.run("etcd", f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={store}", f"--advertise-client-urls={store}",
                     "--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync"),
            self.run("kube-apiserver", f"--etcd-servers={store}", "--bind-address=127.0.0.1", f"--secure-port={self.port}", f"--cert-dir={folder}",
                     f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC", "--allow-privileged=true", "--service-cluster-ip-range=10.0.0.0/24",
                     "--disable-admission-plugins=ServiceAccount", f"--service-account-issuer=https://127.0.0.1:{self.port}/",
                     f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
        ]
        self.until("it is ready", lambda: self.kubectl("get", "--raw", "/readyz").returncode == 0)

    def run(self, name: str, *words: str) -> subprocess.Popen:
        return subprocess.Popen([ASSETS / name, *words], stdout=subprocess.DEVNULL, stderr=(self.folder / f"{name}.log").open("w"))

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(20)

    def kubectl(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess:
        server = [f"--server=https://127.0.0.1:{self.port}", "--token=admin-token", "--insecure-skip-tls-verify"]
        return subprocess.run([ASSETS / "kubectl", *server, *words], input=text, capture_output=True, text=True, cwd=self.folder)

    def put(self, document: dict, *words: str) -> subprocess.CompletedProcess:
        return self.kubectl("apply", "--server-side", "--force-conflicts", *words, "-f", "-", text=json.dumps(document))

    def until(self, what: str, holds) -> None:
        end = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < end, f"{what}: not within {SECONDS} s\n" + (self.folder / "kube-apiserver.log").read_text()[-4000:]
            time.sleep(0.5)


@pytest.fixture(scope="module")
def api(module_folder):
    made = Api(module_folder)
    try:
        for option, folder in (("-k", "crds"), ("-f", "roles")):
            done = made.kubectl("apply", "--server-side", option, str(ROOT / "deploy" / folder))
            assert done.returncode == 0, done.stderr
        done = made.kubectl("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=eastwall", f"--timeout={SECONDS}s")
        assert done.returncode == 0, done.stderr
        for namespace in {each["metadata"].get("namespace", "default") for each in accepted()} - {"default"}:
            made.kubectl("create", "namespace", namespace)
        yield made
    finally:
        made.stop()


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


def policy(tier: str, name: str = "p") -> dict:
    spec = {"tier": tier, "subject": [{"any": True}], "egress": [{"action": "Deny", "to": [{"node": "Any"}]}]}
    return {"apiVersion": "eastwall.dev/v1alpha1", "kind": "ClusterFirewallPolicy", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize("document", accepted(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_what_the_compiler_accepts_is_accepted(api, document):
    done = api.put(document, "--dry-run=server")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"directions": ["Egress"]}, "an Admin policy has no `directions`"),
        ({"replaces": ["q"]}, "`replaces` needs `mode: Audit`"),
        ({"egress": [{"to": [{"any": True}]}]}, "an Allow must name its protocol"),
        ({"egress": [{"to": [{"any": True}], "tcp": {}, "udp": {}}]}, "a rule has one protocol"),
        ({"subject": [{"any": True, "namespace": "x", "pods": {"matchLabels": {"a": "b"}}}]}, "oneOf"),
        ({"mode": "audit"}, "Unsupported value"),
    ],
)
def test_what_is_wrong_is_refused_in_words(api, change, said):
    document = policy("Admin")
    document["spec"] |= change
    done = api.put(document, "--dry-run=server")
    assert done.returncode != 0 and said in done.stderr, done.stderr


def test_a_misspelt_field_is_kept(api):
    document = policy("Admin", "misspelt")
    document["spec"]["egress"][0]["notfrom"] = [{"namespace": "x"}]
    assert api.put(document).returncode == 0
    kept = json.loads(api.kubectl("get", "cfwp", "misspelt", "-o", "json").stdout)
    assert kept["spec"]["egress"][0]["notfrom"]


def test_explain_reads_the_descriptions(api):
    assert "Deny beats Allow" in api.kubectl("explain", "clusterfirewallpolicy.spec.egress.action").stdout


@pytest.mark.parametrize(("role", "tiers"), [("security", {"Admin", "Baseline"}), ("security-baseline", {"Baseline"}), ("platform", set())])
def test_a_tier_is_written_by_those_who_keep_it(api, role, tiers):
    user = f"user-{role}"
    api.kubectl("create", "clusterrolebinding", user, f"--clusterrole=eastwall-{role}", f"--user={user}")
    able = lambda tier: api.put(policy(tier, f"{tier.lower()}-{role}"), "--as", user).returncode == 0
    # A new role, and a new admission policy, take a moment to hold.
    for tier in ["Admin", "Baseline"]:
        api.until(f"{role} and {tier}", lambda: able(tier) == (tier in tiers))
