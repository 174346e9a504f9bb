#!/usr/bin/env python3
"""Sends corpora of raw HTTP/1 through a gateway to a strict recording backend: the scripts `http1.py` and `http11probe.py` of
`shared/conformance` beside the checkout.

Good is: no framing flag, no smuggled request, no message accepted that must be refused; of http11probe no failure of level Must.
The last line: `N passed, M failed`.
"""

import json
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from lab import namespace, program
from lab.firewall import Firewall, policy
from lab.namespace import Namespace
from lab.recorder import Recorder

SHARED = Path(__file__).resolve().parents[2] / "shared" / "conformance"
LISTEN, BACKEND = 8000, 8080
# What a proxy may never pass on, whatever the corpus says of it.
FORBIDDEN = {"two-framings", "bad-te", "bad-cl", "bare-cr", "bare-lf", "nul", "obs-fold", "bad-name", "bad-chunk", "extra-request", "accepted-must-reject"}
WORKLOADS = [{"name": "orders", "namespace": "shop", "serviceAccount": "orders", "ips": ["127.0.0.2"], "ports": [{"name": "http", "port": BACKEND}]}]
OPEN = [policy("orders", "orders", [{"name": "open", "from": [{"any": True}], "http": [{}]}])]


def gateway(folder: Path, stack: ExitStack) -> Namespace:
    place = Namespace("http1")
    stack.callback(place.delete)
    firewall = Firewall(folder, "gateway", place, OPEN, WORKLOADS, listen=f"127.0.0.1:{LISTEN}", upstream=f"127.0.0.2:{BACKEND}", arguments=["--connections-per-source", "9000"])
    stack.enter_context(firewall)
    firewall.start()
    return place


def corpora(folder: Path) -> tuple[int, int]:
    """Every corpus of raw messages; a case is bad when it carries a forbidden flag."""
    good = bad = 0
    with ExitStack() as stack:
        place = gateway(folder, stack)
        for corpus in sorted((SHARED / "data" / "http1").glob("*.jsonl")):
            out = folder / f"{corpus.stem}.result"
            done = place.run([sys.executable, SHARED / "http1.py", "--proxy", f"127.0.0.1:{LISTEN}", "--backend", f"127.0.0.2:{BACKEND}", "--timeout", "0.6", "--add-host", "--out", out, corpus],
                             timeout=900)
            results = [json.loads(line) for line in out.read_text().splitlines()]
            for result in results:
                flags = FORBIDDEN & set(result.get("flags", []))
                if flags or "error" in result:
                    bad += 1
                    print(f"{result['id']}: {sorted(flags)} {result.get('error', '')} statuses {result.get('statuses')}")
                else:
                    good += 1
            print(f"{corpus.stem}: {done.stdout.strip().splitlines()[-1]}")
    return good, bad


def probe(folder: Path) -> tuple[int, int]:
    """Http11Probe: no failure of level Must, and far more passes than failures."""
    with ExitStack() as stack:
        place = gateway(folder, stack)
        stack.enter_context(Recorder(place, "127.0.0.2", BACKEND))
        done = place.run([sys.executable, SHARED / "http11probe.py", "127.0.0.1", LISTEN, "--show"], check=False, timeout=600)
        print(done.stdout[-6000:], done.stderr[-2000:])
        must = int(re.search(r"failures of level Must (\d+)", done.stdout).group(1))
        passed = int(re.search(r"(\d+) passed", done.stdout).group(1))
        return passed, must


def main() -> None:
    if not SHARED.is_dir():
        raise SystemExit(f"{SHARED} is not there: its corpora and http11probe cannot run here")
    namespace.sweep()
    good = bad = 0
    with tempfile.TemporaryDirectory(prefix="ewlab-http1-") as name:
        for index, run in enumerate((corpora, probe)):
            more_good, more_bad = run(Path(name) / str(index))
            good, bad = good + more_good, bad + more_bad
    print(f"{good} passed, {bad} failed")
    sys.exit(1 if bad or not good else 0)


if __name__ == "__main__":
    try:
        main()
    finally:
        program.stop_all()
        namespace.delete_all()
