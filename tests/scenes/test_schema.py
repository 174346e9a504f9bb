"""The published JSON Schema and the compiler agree: what is valid passes both, what has the wrong shape passes neither."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "policy-compiler" / "tests"
EASTWALL = os.environ.get("EASTWALL", str(ROOT / "target" / "release" / "eastwall"))
# Broken documents that only the compiler sees: values, and what fields mean together.
BEYOND = set(
    """
    admin-directions closes-nothing deny-expires deny-proof deny-without-ports dns-names grpc-path
    header-exists-with-values header-host header-name header-without-values host-inner-star host-star
    http-options-nothing jwt-empty method-star no-protocol path-dot-segments path-escaped path-partial-template
    path-query path-regex-large path-regex-lookahead path-regex path-wildcard peer-cidr-address peer-cidr-host-bits
    peer-cidr-without-ports peer-cluster-without-namespace peer-fqdn peer-principal peer-qualified-cidr port-name
    port-quoted port-range-backwards replaces-without-audit rules-outside-directions selector-exists-with-values
    server-name-port settings-network settings-trust-domain subject-other-namespace subject-qualified syntax-directive
    test-bad-workload two-protocols upgrade-h2c yaml-duplicate-key yaml-merge-key yaml-tag
    """.split()
)


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict]:
    kinds = ["FirewallPolicy", "ClusterFirewallPolicy", "PolicyTest", "DialectSettings", "BreakGlass"]
    return {kind: json.loads(subprocess.run([EASTWALL, "schema", kind], capture_output=True, check=True).stdout) for kind in kinds}


def documents(path: Path) -> list[dict]:
    try:
        return [each for each in yaml.safe_load_all(path.read_text()) if isinstance(each, dict)]
    except (yaml.YAMLError, UnicodeDecodeError):
        return []


def is_valid(document: dict, schemas: dict[str, dict]) -> bool:
    schema = schemas.get(document.get("kind", ""))
    return schema is not None and jsonschema.Draft202012Validator(schema).is_valid(document)


def test_the_schemas_are_schemas(schemas):
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", sorted((TESTS / "native").glob("*.yaml")), ids=lambda path: path.stem)
def test_valid_documents_have_the_shape(path, schemas):
    found = [each for each in documents(path) if each.get("kind") in schemas]
    assert found
    for document in found:
        jsonschema.Draft202012Validator(schemas[document["kind"]]).validate(document)


def broken() -> list[Path]:
    chosen = []
    for path in sorted((TESTS / "broken").glob("*.yaml")):
        found = documents(path)
        if len(found) == 1 and str(found[0].get("apiVersion", "")).startswith("eastwall.dev/"):
            chosen.append(path)
    return chosen


@pytest.mark.parametrize("path", broken(), ids=lambda path: path.stem)
def test_broken_documents_are_refused_by_the_compiler_and_by_the_schema_unless_listed(path, schemas):
    done = subprocess.run([EASTWALL, "check", str(path), "--format", "json"], capture_output=True, text=True)
    assert any(finding["severity"] == "error" for finding in json.loads(done.stdout))
    assert is_valid(documents(path)[0], schemas) == (path.stem in BEYOND)


def test_what_is_listed_is_there():
    assert {path.stem for path in broken()} >= BEYOND
