"""The definitions, and the native documents that the compiler accepts and refuses."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CRDS = ROOT / "deploy" / "crds"
TESTS = ROOT / "policy-compiler" / "tests"
EASTWALL = os.environ.get("EASTWALL", str(ROOT / "target" / "release" / "eastwall"))
DEFINITIONS = {each["spec"]["names"]["kind"]: each for each in (json.loads(path.read_text()) for path in sorted(CRDS.iterdir()))}
SCHEMAS = {kind: each["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for kind, each in DEFINITIONS.items()}
# The definitions keep unknown fields, so that the compiler sees them.
UNKNOWN_FIELD = "EW0201"
# Broken documents of whose metadata no definition may say anything: the API's own rules refuse it, or fill it in.
METADATA = {"bad-name", "cluster-with-namespace", "no-name", "no-namespace", "unknown-metadata-field"}
# Broken documents that only the compiler sees: values, and what is said in lists.
COMPILER = set(
    """
    dns-names expires-date from-in-egress grpc-path header-exists-with-values header-host header-name header-without-values host-inner-star host-star http-options-nothing jwt-empty
    method-star path-dot-segments path-escaped path-partial-template path-query path-regex-large path-regex-lookahead path-regex path-wildcard
    peer-cidr-address peer-cidr-host-bits peer-cidr-without-ports peer-cluster-without-namespace peer-fqdn peer-principal peer-qualified-cidr port-name
    port-quoted port-range-backwards rules-outside-directions selector-exists-with-values server-name-port settings-network settings-trust-domain
    subject-other-namespace subject-qualified test-bad-workload upgrade-h2c yaml-duplicate-key yaml-merge-key yaml-tag
    """.split()
)


class Reader(yaml.SafeLoader):
    """YAML as kubectl reads it: a date is a text."""

    yaml_implicit_resolvers = {
        first: [each for each in kinds if each[0] != "tag:yaml.org,2002:timestamp"] for first, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def documents(path: Path) -> list[dict]:
    try:
        return [each for each in yaml.load_all(path.read_text(), Reader) if isinstance(each, dict)]
    except (yaml.YAMLError, UnicodeDecodeError):
        return []


def is_accepted(text: str) -> bool:
    """By the compiler, as a document of its own."""
    done = subprocess.run([EASTWALL, "check", "-", "--format", "json"], input=text, capture_output=True, text=True)
    return not any(finding["severity"] == "error" for finding in json.loads(done.stdout))


def accepted() -> list[dict]:
    """Every native document of the examples, the suite and the packs that the compiler accepts."""
    found = [each for path in sorted((TESTS / "native").glob("*.yaml")) for each in documents(path)]
    for path in sorted((ROOT / "deploy" / "packs").rglob("*.yaml")):
        found += documents(path)
    for suite in [ROOT / "tests" / "suites" / "native.json"]:
        for group in json.loads(suite.read_text())["groups"]:
            for policy in group["policies"]:
                text = policy if "\n" in policy else (suite.parent / policy).read_text()
                found += [each for each in yaml.load_all(text, Reader) if each and is_accepted(yaml.safe_dump(each))]
    return [each for each in found if each.get("kind") in SCHEMAS]


def broken() -> list[Path]:
    found = [(path, documents(path)) for path in sorted((TESTS / "broken").glob("*.yaml"))]
    return [path for path, each in found if len(each) == 1 and str(each[0].get("apiVersion", "")).startswith("eastwall.dev/")]


def codes(path: Path) -> list[str]:
    done = subprocess.run([EASTWALL, "check", str(path), "--format", "json"], capture_output=True, text=True)
    return [finding["code"] for finding in json.loads(done.stdout) if finding["severity"] == "error"]


def only_the_compiler_refuses(path: Path) -> bool:
    """A broken document that a definition lets pass."""
    return path.stem in COMPILER or set(codes(path)) == {UNKNOWN_FIELD}
