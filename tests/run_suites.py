#!/usr/bin/env python3
"""Runs suites of cases through `eastwall decide`, and with `--through-proxy` also as real traffic, and reports every verdict that differs.

usage: run_suites.py [--eastwall PATH] [--through-proxy] [--show N] [--suites FOLDER[:FOLDER...]] [SUITE.json | FOLDER ...]

Without arguments: the suites beside this file, and those of the folders in `--suites` or the environment variable EASTWALL_SUITES, separated by `:`
(`./test` sets it); one that is not there is said loudly.

A suite: {"suite", "source", "groups": [{"policies": [path or inline YAML], "workloads": path or list, "cases": [{"id", ...a request of `decide`...,
"expect": "allow" | "deny" | "reject", "expectAudit", "why"}]}]}. `expectAudit`, where it is there, is the verdict of the shadow table, or an object
whose members (verdict, policy, rule) are compared with those of the answer's `audit`. Paths are relative to the suite's file.

Exit 0 when every verdict is as expected. The last line: `N passed, M failed`.
"""

import argparse
import collections
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class Score:
    """Counts, and the first differences in words."""

    def __init__(self, show: int):
        self.passed = self.failed = 0
        self.show = show

    def tell(self, good: bool, suite: str, case: dict, got: str) -> None:
        if good:
            self.passed += 1
            return
        self.failed += 1
        if self.failed <= self.show:
            print(f"{suite} {case['id']}: expected {case['expect']}, got {got}  ({case.get('why', '')[:160]})")


def written(item, base: Path, folder: Path, name: str) -> Path:
    """A path of the suite, or an inline document in a file."""
    if isinstance(item, str) and "\n" not in item and (base / item).exists():
        return base / item
    made = folder / name
    made.write_text(item if isinstance(item, str) else json.dumps(item, indent=1))  # JSON is YAML
    return made


def decide(eastwall: str, policies: list[Path], workloads: Path | None, requests: list[dict]) -> tuple[dict, str]:
    command = [eastwall, "decide", "--requests", "-"]
    for policy in policies:
        command += ["--policy", str(policy)]
    if workloads:
        command += ["--workloads", str(workloads)]
    done = subprocess.run(command, input="".join(json.dumps(request) + "\n" for request in requests), capture_output=True, text=True, timeout=300)
    verdicts = {}
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError):
            verdict = json.loads(line)
            verdicts[verdict.get("id")] = verdict
    return verdicts, (done.stderr.strip().splitlines() or ["no output"])[-1][:200]


def request_of(case: dict) -> dict:
    return {key: value for key, value in case.items() if key not in ("expect", "expectAudit", "why", "policy")}


def consistent(cases: list[dict], suite: str) -> list[dict]:
    """The cases but those that expect different verdicts of one and the same request, which are said: no verdict could satisfy them."""
    expected = collections.defaultdict(set)
    for case in cases:
        expected[json.dumps({key: value for key, value in request_of(case).items() if key != "id"}, sort_keys=True)].add(case["expect"])
    kept = []
    for case in cases:
        request = {key: value for key, value in request_of(case).items() if key != "id"}
        verdicts = expected[json.dumps(request, sort_keys=True)]
        if len(verdicts) > 1:
            print(f"NOTE: {suite} {case['id']}: left out, the same request is expected to be {' and '.join(sorted(verdicts))}")
        else:
            kept.append(case)
    return kept


def judged(case: dict, answer: dict, said: str) -> tuple[bool, str]:
    """Whether an answer of `decide` is what the case expects, and the answer in words."""
    got = answer.get("verdict", f"none: {said}")
    if got != case["expect"] or "expectAudit" not in case:
        return got == case["expect"], got
    expected, audit = case["expectAudit"], answer.get("audit") or {}
    if not isinstance(expected, dict):
        expected = {"verdict": expected}
    return all(name in audit and audit[name] == value for name, value in expected.items()), f"{got} with audit {audit}, not {expected}"


def run_suite(path: Path, eastwall: str, score: Score, through_proxy: bool) -> None:
    suite = json.loads(path.read_text())
    before = (score.passed, score.failed)
    left_out: collections.Counter = collections.Counter()
    sent = 0
    for group in suite["groups"]:
        with tempfile.TemporaryDirectory(prefix="ewlab-suite-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            policies = [written(item, path.parent, folder, f"policy-{index}.yaml") for index, item in enumerate(group["policies"])]
            entries = group.get("workloads") or suite.get("workloads")
            workloads = written(entries, path.parent, folder, "workloads.yaml") if entries else None
            if through_proxy:
                from lab.traffic import send_group

                cases = consistent(group["cases"], suite["suite"])
                for case, good, got in send_group(folder, policies, workloads, cases, left_out):
                    sent += 1
                    score.tell(good, suite["suite"], case, got)
                continue
            verdicts, said = decide(eastwall, policies, workloads, [request_of(case) for case in group["cases"]])
            for case in consistent(group["cases"], suite["suite"]):
                good, got = judged(case, verdicts.get(case["id"], {}), said)
                score.tell(good, suite["suite"], case, got)
    passed, failed = score.passed - before[0], score.failed - before[1]
    print(f"{suite['suite']}{' through the proxy' if through_proxy else ''}: {passed} of {passed + failed}")
    for why, count in sorted(left_out.items()):
        print(f"  {count} not expressible as traffic: {why}")
    if through_proxy and not sent:
        print("  no case of this suite was sent")


def chosen(arguments: list[str], more: str) -> list[Path]:
    """The suite files that are meant."""
    folders = [Path(each) for each in arguments]
    if not folders:
        folders = [HERE / "suites"]
        for each in filter(None, more.split(":")):
            if Path(each).is_dir():
                folders.append(Path(each))
            else:
                print(f"NOTE: {each} is not there: its suites are left out")
    files = []
    for each in folders:
        files += sorted(each.glob("*.json")) if each.is_dir() else [each]
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eastwall", default=os.environ.get("EASTWALL", str(ROOT / "target" / "release" / "eastwall")))
    parser.add_argument("--through-proxy", action="store_true")
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--suites", dest="more", default=os.environ.get("EASTWALL_SUITES", ""))
    parser.add_argument("suites", nargs="*")
    given = parser.parse_args()
    os.environ["EASTWALL"] = given.eastwall
    score = Score(given.show)
    for path in chosen(given.suites, given.more):
        run_suite(path, given.eastwall, score, given.through_proxy)
    print(f"{score.passed} passed, {score.failed} failed")
    sys.exit(1 if score.failed or not score.passed else 0)


if __name__ == "__main__":
    try:
        main()
    finally:
        if "lab.namespace" in sys.modules:
            from lab import namespace, program

            program.stop_all()
            namespace.delete_all()
