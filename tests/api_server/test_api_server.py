"""A real API server takes the definitions, keeps what the compiler accepts as it is, refuses what they refuse, and tells tiers apart."""

from __future__ import annotations

import json

import pytest
from kinds import METADATA, ROOT, SCHEMAS, accepted, broken, documents, is_accepted, only_the_compiler_refuses
from lab.api_server import SECONDS
from lab.program import until

BROKEN = [path for path in broken() if path.stem not in METADATA and documents(path)[0].get("kind") in SCHEMAS]
TIERS = ["Admin", "Baseline"]
# How kubectl and the API server refuse what a definition does not allow: values, types, versions.
REFUSED = ["is invalid: ", "failed to create typed patch object", "no matches for kind"]


def policy(tier: str, name: str = "p") -> dict:
    spec = {"tier": tier, "subject": [{"any": True}], "egress": [{"action": "Deny", "to": [{"node": "Any"}]}]}
    return {"apiVersion": "eastwall.dev/v1alpha1", "kind": "ClusterFirewallPolicy", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize("document", accepted(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_what_the_compiler_accepts_is_kept_as_it_is(api, document):
    done = api.put(document, "--dry-run=server", "-o", "json")
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)
    assert kept["spec"] == document["spec"]
    # An emergency that was made after its end is none, and every one here is made now.
    del kept["metadata"]["creationTimestamp"]
    # Alone, some do not pass: they name others.
    assert is_accepted(json.dumps(kept)) == is_accepted(json.dumps(document))


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_what_is_broken_is_refused_unless_only_the_compiler_sees_it(api, path):
    (document,) = documents(path)
    done = api.put(document, "--dry-run=server")
    assert (done.returncode == 0) == only_the_compiler_refuses(path), done.stderr
    assert done.returncode == 0 or any(words in done.stderr for words in REFUSED), done.stderr


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


@pytest.mark.parametrize("place", [lambda whole: whole, lambda whole: whole["spec"], lambda whole: whole["spec"]["egress"][0]], ids=["document", "spec", "rule"])
# Strict or not: a client that checks nothing must not lose it either.
@pytest.mark.parametrize("words", [["--server-side"], ["--validate=ignore"]], ids=["strict", "lax"])
def test_a_misspelt_field_is_kept_for_the_compiler_to_refuse(api, place, words):
    document = policy("Admin")
    assert is_accepted(json.dumps(document))
    place(document)["misspelt"] = {"namespace": "x"}
    done = api.kubectl("apply", "--dry-run=server", "-o", "json", *words, "-f", "-", text=json.dumps(document))
    assert done.returncode == 0, done.stderr
    assert place(json.loads(done.stdout))["misspelt"] == {"namespace": "x"}
    assert not is_accepted(done.stdout)


def test_what_kubectl_reads_is_what_the_compiler_takes(api):
    name = "read-back"
    assert api.put(policy("Admin", name)).returncode == 0
    for words in [["cfwp", name], ["fwp,cfwp", "-A"]]:
        read = api.kubectl("get", *words, "-o", "yaml").stdout
        assert name in read and is_accepted(read)


def test_the_category_names_all_kinds(api):
    done = api.kubectl("get", "eastwall", "-A", "--show-kind")
    assert done.returncode == 0, done.stderr


def test_explain_reads_the_descriptions(api):
    assert "Deny beats Allow" in api.kubectl("explain", "clusterfirewallpolicy.spec.egress.action").stdout


def outcome(done) -> str:
    if done.returncode == 0:
        return "done"
    return next((why for why, words in {"tier": "needs the verb write-tier-", "role": "cannot"}.items() if words in done.stderr), done.stderr)


@pytest.mark.parametrize(
    ("role", "tiers", "otherwise"), [("security", {"Admin", "Baseline"}, "tier"), ("security-baseline", {"Baseline"}, "tier"), ("platform", set(), "role")]
)
def test_a_tier_is_changed_by_those_who_keep_it(api, role, tiers, otherwise):
    user = f"user-{role}"
    assert api.kubectl("create", "clusterrolebinding", user, f"--clusterrole=eastwall-{role}", f"--user={user}").returncode == 0
    for tier in TIERS:
        assert api.put(policy(tier, f"kept-{tier.lower()}")).returncode == 0
    words = ["--dry-run=server", "--as", user]
    # A change with the tiers that a policy had and gets.
    changes = {(None, tier): lambda tier=tier: api.put(policy(tier, "new"), *words) for tier in TIERS}
    changes |= {(old, new): lambda old=old, new=new: api.put(policy(new, f"kept-{old.lower()}"), *words) for old in TIERS for new in TIERS}
    changes |= {(tier, None): lambda tier=tier: api.kubectl("delete", "cfwp", f"kept-{tier.lower()}", *words) for tier in TIERS}
    expected = {change: "done" if {tier for tier in change if tier} <= tiers else otherwise for change in changes}

    def holds() -> bool:
        seen = {change: outcome(make()) for change, make in changes.items()}
        assert seen == expected
        return True

    # A new role, and a new admission policy, take a moment to hold.
    until(holds, f"what {role} may change", SECONDS, 0.2)
