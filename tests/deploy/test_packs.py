"""Each pack of policies is free of findings, its tests pass and reach every rule, and each of its policies is needed for that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EASTWALL = os.environ.get("EASTWALL", str(ROOT / "target" / "release" / "eastwall"))
PACKS = sorted(path for path in (ROOT / "deploy" / "packs").iterdir() if path.is_dir())
POLICIES = [path for pack in PACKS for path in sorted((pack / "policies").iterdir())]


def eastwall(pack: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([EASTWALL, *words, "--workloads", "workloads.yaml"], cwd=pack, capture_output=True, text=True)


def run_tests(pack: Path) -> subprocess.CompletedProcess:
    return eastwall(pack, "test", "tests", "--policy", "policies", "--coverage", "--min-coverage", "100")


def test_there_are_packs():
    assert {pack.name for pack in PACKS} == {"cluster-doors"}


@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.name)
def test_nothing_is_found(pack):
    done = eastwall(pack, "check", "policies", "tests", "--format", "json")
    # Notes tell what the baseline leaves open on purpose.
    found = [each for each in json.loads(done.stdout) if each["severity"] != "note"]
    assert (done.returncode, found) == (0, [])


@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.name)
def test_the_tests_pass_and_reach_every_rule(pack):
    done = run_tests(pack)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(100 %)" in done.stdout + done.stderr


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.stem)
def test_the_tests_fail_without_the_policy(policy, tmp_path):
    pack = tmp_path / "pack"
    shutil.copytree(policy.parent.parent, pack)
    (pack / "policies" / policy.name).unlink()
    done = run_tests(pack)
    assert done.returncode == 1 and "FAIL" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.name)
def test_each_policy_is_in_audit_mode_when_that_is_written(pack, tmp_path):
    """What the pack's description advises for a trial."""
    for path in sorted((pack / "policies").iterdir()):
        text = path.read_text()
        assert text.count("\nspec:\n") == 1
        (tmp_path / path.name).write_text(text.replace("\nspec:\n", "\nspec:\n  mode: Audit\n"))
    done = subprocess.run([EASTWALL, "check", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
