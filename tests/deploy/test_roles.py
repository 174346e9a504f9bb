"""Who may write what: the rules of the roles and the expressions of the admission policy, evaluated together for every role, kind, tier and operation."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import cel
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
ROLES = {each["metadata"]["name"]: each for each in yaml.safe_load_all((ROOT / "deploy" / "roles" / "roles.yaml").read_text())}
POLICY, BINDING = yaml.safe_load_all((ROOT / "deploy" / "roles" / "tiers.yaml").read_text())
DEFINITIONS = [json.loads(path.read_text())["spec"] for path in sorted((ROOT / "deploy" / "crds").iterdir())]
PLURALS = {each["names"]["plural"] for each in DEFINITIONS}
STATUSES = {each["names"]["plural"] for each in DEFINITIONS if "subresources" in each["versions"][0]}
GROUP = "eastwall.dev"
READ = {"get", "list", "watch"}
WRITE = {"create", "update", "patch", "delete"}
TIERS = ["Admin", "Baseline"]
# Who writes which kind; of the cluster's policies, which tiers.
WRITERS = {
    "eastwall-security": {"clusterfirewallpolicies": {"Admin", "Baseline"}},
    "eastwall-security-baseline": {"clusterfirewallpolicies": {"Baseline"}},
    "eastwall-platform": {"dialectsettings": set()},
    "eastwall-application": {"firewallpolicies": set(), "policytests": set()},
    "eastwall-break-glass": {"breakglasses": set()},
    "eastwall-view": {},
}


def verbs(role: str, resource: str) -> set[str]:
    """As RBAC has it: every rule that names the resource, or everything."""
    granted = set()
    for rule in ROLES[role]["rules"]:
        if {GROUP, "*"} & set(rule["apiGroups"]) and {resource, "*"} & set(rule["resources"]) and not rule.get("resourceNames"):
            granted |= set(rule["verbs"])
    return granted


def holds(expression: str, operation: str, old: str | None, new: str | None, granted: set[str]) -> bool:
    asked = re.compile(r"authorizer\.group\('eastwall\.dev'\)\.resource\('clusterfirewallpolicies'\)\.check\((.*?)\)\.allowed\(\)")
    plain, count = asked.subn(r"((\1) in granted)", expression)
    assert count == 1 and "authorizer" not in plain
    spec = lambda tier: tier and {"spec": {"tier": tier}}
    known = {"request": {"operation": operation}, "object": spec(new), "oldObject": spec(old), "granted": sorted(granted)}
    return cel.evaluate(plain, known) is True


def is_admitted(operation: str, old: str | None, new: str | None, granted: set[str]) -> bool:
    return all(holds(each["expression"], operation, old, new, granted) for each in POLICY["spec"]["validations"])


def test_the_roles_are_these():
    assert set(ROLES) == set(WRITERS)
    assert all(each["kind"] == "ClusterRole" and "aggregationRule" not in each for each in ROLES.values())


@pytest.mark.parametrize(("role", "resource"), list(itertools.product(WRITERS, sorted(PLURALS))))
def test_a_kind_is_written_by_those_who_should(role, resource):
    granted = verbs(role, resource)
    assert "*" not in granted
    assert granted & WRITE == (WRITE if resource in WRITERS[role] else set())
    assert {each for each in granted if each.startswith("write-tier-")} == {f"write-tier-{tier}" for tier in WRITERS[role].get(resource, ())}
    assert granted <= READ | WRITE | {f"write-tier-{tier}" for tier in TIERS}


@pytest.mark.parametrize("role", WRITERS)
def test_no_role_reaches_beyond_the_kinds(role):
    for rule in ROLES[role]["rules"]:
        assert rule["apiGroups"] == [GROUP] and set(rule["resources"]) <= PLURALS and not {f"{plural}/status" for plural in STATUSES} & set(rule["resources"])


def test_who_keeps_policies_of_the_cluster_reads_what_they_meet():
    for role in ["eastwall-security", "eastwall-security-baseline", "eastwall-platform"]:
        assert all(verbs(role, plural) >= READ for plural in PLURALS)


CHANGES = [("CREATE", None, new) for new in TIERS] + [("UPDATE", old, new) for old in TIERS for new in TIERS] + [("DELETE", old, None) for old in TIERS]


@pytest.mark.parametrize(("role", "change"), list(itertools.product(WRITERS, CHANGES)), ids=str)
def test_a_tier_is_changed_by_those_who_keep_it(role, change):
    operation, old, new = change
    granted = verbs(role, "clusterfirewallpolicies")
    keeps = WRITERS[role].get("clusterfirewallpolicies", set())
    verb = {"CREATE": "create", "UPDATE": "update", "DELETE": "delete"}[operation]
    assert (verb in granted and is_admitted(operation, old, new, granted)) == ({tier for tier in (old, new) if tier} <= keeps)


def test_who_may_write_the_kind_alone_writes_no_tier():
    assert not any(is_admitted(*change, WRITE | READ) for change in CHANGES)


def test_the_admission_policy_covers_every_write_and_fails_closed():
    spec = POLICY["spec"]
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert spec["failurePolicy"] == "Fail" and "matchConditions" not in spec
    assert (rule["apiGroups"], rule["apiVersions"], rule["resources"]) == ([GROUP], ["*"], ["clusterfirewallpolicies"])
    assert set(rule["operations"]) == {"CREATE", "UPDATE", "DELETE"}
    assert BINDING["spec"]["policyName"] == POLICY["metadata"]["name"]
    assert "Deny" in BINDING["spec"]["validationActions"] and "matchResources" not in BINDING["spec"]


def test_the_definition_has_the_tiers_that_verbs_name():
    (cluster,) = [each for each in DEFINITIONS if each["names"]["plural"] == "clusterfirewallpolicies"]
    spec = cluster["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert spec["properties"]["tier"]["enum"] == TIERS and "tier" in spec["required"]
