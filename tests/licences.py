#!/usr/bin/env python3
"""Holds the licences, sources and bans of every dependency to `deny.toml`, where cargo-deny is not installed."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def allowed(expression: str, licences: set[str]) -> bool:
    """An SPDX expression, `/` read as OR as old manifests mean it."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    at = 0

    def one() -> bool:
        nonlocal at
        if tokens[at] == "(":
            at += 1
            value = either()
            at += 1
            return value
        name = tokens[at]
        at += 1
        if at < len(tokens) and tokens[at] == "WITH":
            name += f" WITH {tokens[at + 1]}"
            at += 2
        return name in licences

    def both() -> bool:
        nonlocal at
        value = one()
        while at < len(tokens) and tokens[at] == "AND":
            at += 1
            value = one() and value
        return value

    def either() -> bool:
        nonlocal at
        value = both()
        while at < len(tokens) and tokens[at] == "OR":
            at += 1
            value = both() or value
        return value

    return either()


def main() -> None:
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    licences = set(rules["licenses"]["allow"])
    banned = {each["crate"] for each in rules["bans"]["deny"]}
    done = subprocess.run(["cargo", "metadata", "--format-version", "1", "--locked"], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = json.loads(done.stdout)["packages"]
    wrong = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not package.get("license") or not allowed(package["license"], licences):
            wrong.append(f"{name}: licence `{package.get('license')}` is not in deny.toml")
        if package["name"] in banned:
            wrong.append(f"{name}: banned in deny.toml")
        if package.get("source") and package["source"].startswith("git+"):
            wrong.append(f"{name}: from a git repository")
    for line in wrong:
        print(line)
    print(f"{len(packages)} packages, {len(wrong)} against deny.toml")
    sys.exit(1 if wrong or len(packages) < 10 else 0)


if __name__ == "__main__":
    main()
