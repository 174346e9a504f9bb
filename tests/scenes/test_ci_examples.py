"""The commands of the CI examples are ones that this program has, and they do on real files what the examples expect of them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
EASTWALL = os.environ.get("EASTWALL", str(ROOT / "target" / "release" / "eastwall"))
FILES = [*sorted((ROOT / "docs" / "ci").glob("*.yaml")), ROOT / ".pre-commit-hooks.yaml"]
POLICY = """
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  ingress: [{name: reads, from: [{serviceAccount: web}], http: [{methods: [GET, HEAD], paths: ["/orders/{id}"]}]}]
---
apiVersion: eastwall.dev/v1alpha1
kind: PolicyTest
metadata: {name: orders, namespace: shop}
spec:
  cases: [{name: reads, src: {workload: shop/web}, dst: {workload: shop/orders, port: 8080}, method: GET, path: /orders/7, expect: allow}]
"""
WORKLOADS = """
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
"""


def commands() -> list[str]:
    found = []
    for path in FILES:
        yaml.safe_load(path.read_text())
        found += re.findall(r"(?:run: |entry: |- |^ *)(eastwall [^|\n]*)", path.read_text(), re.M)
    return sorted({command.split(">")[0].strip() for command in found})


def test_there_are_commands():
    assert {command.split()[1] for command in commands()} >= {"check", "test", "diff"}


@pytest.mark.parametrize("command", commands())
def test_the_command_does_what_is_expected(command, tmp_path):
    for side in ("base/policies", "here/policies"):
        (tmp_path / side).mkdir(parents=True)
        (tmp_path / side / "orders.yaml").write_text(POLICY)
    (tmp_path / "here" / "workloads.yaml").write_text(WORKLOADS)
    words = shlex.split(command)[1:]
    if len(words) == 1:
        words += ["policies/", "--workloads", "workloads.yaml"]
    done = subprocess.run([EASTWALL, *words], cwd=tmp_path / "here", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("methods", "code"), [("[GET, HEAD]", 0), ("[GET, HEAD, DELETE]", 1)])
def test_the_github_step_fails_when_access_widens(methods, code, tmp_path):
    (tmp_path / "base" / "policies").mkdir(parents=True)
    (tmp_path / "base" / "policies" / "orders.yaml").write_text(POLICY)
    here = tmp_path / "here"
    (here / "policies").mkdir(parents=True)
    (here / "policies" / "orders.yaml").write_text(POLICY.replace("[GET, HEAD]", methods))
    (here / "workloads.yaml").write_text(WORKLOADS)
    workflow = yaml.safe_load((ROOT / "docs" / "ci" / "github-actions.yaml").read_text())
    (step,) = [step for step in workflow["jobs"]["policies"]["steps"] if "eastwall diff" in step.get("run", "")]
    script = tmp_path / "step.sh"
    script.write_text("\n".join(line for line in step["run"].splitlines() if not line.startswith("git worktree")))
    shell = [str(script) if word == "{0}" else word for word in step["shell"].split()]
    path = f"{Path(EASTWALL).parent}:{os.environ['PATH']}"
    done = subprocess.run(shell, cwd=here, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
