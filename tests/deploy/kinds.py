"""The definitions, and the native documents that the compiler accepts."""

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
DEFINITIONS = {each["spec"]["names"]["kind"]: each for each in (json.loads(path.read_text()) for path in sorted(CRDS.glob("*.json")))}
SCHEMAS = {kind: each["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for kind, each in DEFINITIONS.items()}


def documents(path: Path) -> list[dict]:
    try:
        return [each for each in yaml.safe_load_all(path.read_text()) if isinstance(each, dict)]
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
                found += [each for each in yaml.safe_load_all(text) if each and is_accepted(yaml.safe_dump(each))]
    return [each for each in found if each.get("kind") in SCHEMAS]
