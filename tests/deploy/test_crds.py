"""The definitions obey the API server's rules, and agree with the compiler: what it accepts they accept, and what they refuse it refuses."""

from __future__ import annotations

import copy
import json
import subprocess

import pytest
from kinds import COMPILER, DEFINITIONS, EASTWALL, METADATA, SCHEMAS, accepted, broken, codes, documents, only_the_compiler_refuses
from structural import COST_OF_ALL_RULES, COST_OF_ONE_RULE, KEEP, costs, faults, fields, refusals

KINDS = sorted(DEFINITIONS)


def test_the_examples_are_those_of_every_kind():
    assert {each["kind"] for each in accepted()} == set(KINDS)


@pytest.mark.parametrize("document", accepted(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_what_the_compiler_accepts_the_definition_accepts(document):
    assert refusals(SCHEMAS[document["kind"]], document) == []


@pytest.mark.parametrize("path", broken(), ids=lambda path: path.stem)
def test_what_is_broken_is_refused_by_the_compiler_and_by_the_definition_unless_listed(path):
    assert codes(path)
    (document,) = documents(path)
    passes = document.get("kind") in SCHEMAS and not refusals(SCHEMAS[document["kind"]], document)
    assert passes == (path.stem in METADATA or only_the_compiler_refuses(path))


def test_what_is_listed_is_there():
    assert {path.stem for path in broken()} >= COMPILER | METADATA


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_structural(kind):
    assert list(faults(SCHEMAS[kind])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_bounds_on_the_cost_of_rules_are_kept(kind):
    found = list(costs(SCHEMAS[kind]))
    assert all(cost < COST_OF_ONE_RULE for _, cost in found), found
    assert sum(cost for _, cost in found) < COST_OF_ALL_RULES


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_and_the_kind_are_explained(kind):
    assert SCHEMAS[kind]["description"]
    silent = [at for at, schema in fields(SCHEMAS[kind]) if not schema.get("description") and at != "/metadata"]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_unknown_field_is_dropped(kind):
    whole = SCHEMAS[kind]
    spec = whole["properties"]["spec"]
    dropping = [at for at, schema in [("", whole), ("/spec", spec), *fields(spec, "/spec")] if schema.get("type") == "object" and "properties" in schema and not schema.get(KEEP)]
    assert dropping == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_definition_has_its_names_scope_columns_and_status(kind):
    definition = DEFINITIONS[kind]["spec"]
    (version,) = definition["versions"]
    names = definition["names"]
    assert DEFINITIONS[kind]["metadata"]["name"] == f"{names['plural']}.{definition['group']}"
    assert names["shortNames"] and names["categories"] == ["eastwall"] and names["singular"] == kind.lower()
    assert definition["scope"] == ("Cluster" if kind in {"ClusterFirewallPolicy", "DialectSettings"} else "Namespaced")
    columns = [column["name"] for column in version["additionalPrinterColumns"]]
    conditions = {
        "FirewallPolicy": ["Accepted", "Programmed", "Selecting"],
        "ClusterFirewallPolicy": ["Accepted", "Programmed", "Selecting"],
        "DialectSettings": ["Accepted", "Programmed"],
        "PolicyTest": [],
    }[kind]
    assert columns[-1] == "Age" and set(columns) >= set(conditions) - {"Selecting"}
    assert ("subresources" in version) == bool(conditions)
    status = version["schema"]["openAPIV3Schema"]["properties"].get("status", {}).get("properties", {})
    assert ("observedGeneration" in status) == bool(conditions)
    assert ("selectedWorkloads" in status) == ("Selecting" in conditions) == ("Selected" in columns)
    if conditions:
        assert status["conditions"]["items"]["properties"]["type"]["enum"] == conditions


def test_the_list_that_the_command_prints_holds_the_published_files():
    printed = json.loads(subprocess.run([EASTWALL, "schema", "--crd"], capture_output=True, check=True).stdout)
    assert {each["metadata"]["name"]: each for each in printed["items"]} == {each["metadata"]["name"]: each for each in DEFINITIONS.values()}


# The checks themselves can fail.


@pytest.mark.parametrize(
    "change",
    [
        lambda schema: schema.pop("type"),
        lambda schema: schema["properties"]["spec"]["properties"]["subject"].pop("items"),
        lambda schema: schema["properties"]["spec"].update(additionalProperties=False),
        lambda schema: schema["properties"]["spec"].update({"$ref": "#/x"}),
        lambda schema: schema["properties"]["spec"].update(oneOf=[{"type": "object"}]),
        lambda schema: schema["properties"]["spec"].update(allOf=[{"required": ["elsewhere"]}]),
    ],
)
def test_what_is_not_structural_is_seen(change):
    schema = copy.deepcopy(SCHEMAS["FirewallPolicy"])
    change(schema)
    assert list(faults(schema))


def test_a_rule_that_costs_too_much_is_seen():
    schema = copy.deepcopy(SCHEMAS["FirewallPolicy"])
    rule = schema["properties"]["spec"]["properties"]["ingress"]["items"]["x-kubernetes-validations"][0]
    rule["rule"] = " && ".join([rule["rule"]] * 3)
    assert max(cost for _, cost in costs(schema)) > COST_OF_ONE_RULE
