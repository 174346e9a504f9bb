"""A real API server, of KUBEBUILDER_ASSETS: it takes the definitions, accepts what the compiler accepts, refuses what they refuse, and tells tiers apart."""

from __future__ import annotations

import json

import pytest
from kinds import accepted
from server import Api


@pytest.fixture(scope="module")
def api(module_folder):
    made = Api(module_folder)
    try:
        made.install("crds", "roles")
        for namespace in {each["metadata"].get("namespace", "default") for each in accepted()} - {"default"}:
            made.kubectl("create", "namespace", namespace)
        yield made
    finally:
        made.stop()


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
