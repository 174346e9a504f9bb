#!/usr/bin/env python3
"""Sends corpora of raw HTTP/1 through a gateway to a strict recording backend: the scripts `http1.py` and `http11probe.py` of
the folder that the environment variable EASTWALL_CONFORMANCE names (`./test` sets it).

Good is: no framing flag, no smuggled request, no message accepted that must be refused; of http11probe no failure of level Must.
The last line: `N passed, M failed`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from lab import namespace, program
from lab.firewall import Firewall, policy
from lab.namespace import Namespace
from lab.recorder import Recorder

SHARED = Path(os.environ.get("EASTWALL_CONFORMANCE", "")).resolve()
LISTEN, BACKEND = 8000, 8080
# Of nginx through the same script.
NGINX_PASSES = 91
# What a proxy may never pass on, whatever the corpus says of it.
FORBIDDEN = {"two-framings", "bad-te", "bad-cl", "bare-cr", "bare-lf", "nul", "obs-fold", "bad-name", "bad-chunk", "extra-request", "accepted-must-reject"}
WORKLOADS = [{"name": "orders", "namespace": "shop", "serviceAccount": "orders", "ips": ["127.0.0.2"], "ports": [{"name": "http", "port": BACKEND}]}]
OPEN = [policy("orders", "orders", [{"name": "open", "from": [{"any": True}], "http": [{}]}])]


# What the corpora refuse for reasons of the server they were made for, and a proxy rightly passes on: limits that its owner set lower, methods
# and headers that it does not know, and bytes behind a message that closed the connection (they go nowhere).
NOT_A_PROXYS = {
    "invalid/003c.http": "a method that is a token", "invalid/006.http": "a limit of that server", "invalid/007.http": "a limit of that server",
    "invalid/008.http": "a limit of that server", "invalid/010.http": "a limit of that server", "invalid/017.http": "a limit of that server",
    "invalid/019.http": "schemes that its settings compare", "invalid/041.http": "two Content-Type lines, which the application judges",
    "invalid/limit_header_default_01.http": "a limit of that server", "connection.md:84": "bytes behind a message that closes",
    "connection.md:297": "bytes behind a message that closes", "connection.md:347": "bytes behind a message that closes",
    "invalid.md:69": "a method of another protocol", "invalid.md:359": "a method that is a token",
}


def gateway(folder: Path, stack: ExitStack) -> Namespace:
    place = Namespace("http1")
    stack.callback(place.delete)
    firewall = Firewall(folder, "gateway", place, OPEN, WORKLOADS, listen=f"127.0.0.1:{LISTEN}", upstream=f"127.0.0.2:{BACKEND}", arguments=["--connections-per-source", "9000"])
    stack.enter_context(firewall)
    firewall.start()
    return place


def corpus(folder: Path, file: Path) -> tuple[int, int, str]:
    """One corpus of raw messages; a case is bad when it carries a forbidden flag."""
    good = bad = 0
    said = []
    with ExitStack() as stack:
        place = gateway(folder, stack)
        out = folder / f"{file.stem}.result"
        done = place.run([sys.executable, SHARED / "http1.py", "--proxy", f"127.0.0.1:{LISTEN}", "--backend", f"127.0.0.2:{BACKEND}", "--timeout", "0.6", "--add-host", "--out", out, file], timeout=900)
        for result in map(json.loads, out.read_text().splitlines()):
            flags = FORBIDDEN & set(result.get("flags", []))
            if result["id"] in NOT_A_PROXYS:
                flags -= {"accepted-must-reject"}
            if flags or "error" in result:
                bad += 1
                said.append(f"{result['id']}: {sorted(flags)} {result.get('error', '')} statuses {result.get('statuses')}")
            else:
                good += 1
        said.append(f"{file.stem}: {done.stdout.strip().splitlines()[-1]}")
    return good, bad, "\n".join(said)


def probe(folder: Path) -> tuple[int, int, str]:
    """Http11Probe: no failure of level Must, and passes well above nginx's."""
    with ExitStack() as stack:
        place = gateway(folder, stack)
        stack.enter_context(Recorder(place, "127.0.0.2", BACKEND))
        done = place.run([sys.executable, SHARED / "http11probe.py", "127.0.0.1", LISTEN, "--show"], check=False, timeout=600)
        must = int(re.search(r"failures of level Must (\d+)", done.stdout).group(1))
        passed = int(re.search(r"(\d+) passed", done.stdout).group(1))
        below = int(passed < NGINX_PASSES + 20)
        return passed, must + below, f"http11probe: {passed} passed (nginx: {NGINX_PASSES}), {must} failures of level Must\n{done.stdout[-3000:]}{done.stderr[-1000:]}"


def main() -> None:
    if not (SHARED / "http1.py").is_file():
        raise SystemExit(f"EASTWALL_CONFORMANCE={SHARED} has no http1.py: its corpora and http11probe cannot run here")
    namespace.sweep()
    good = bad = 0
    files = sorted((SHARED / "data" / "http1").glob("*.jsonl"))
    with tempfile.TemporaryDirectory(prefix="ewlab-http1-") as name, ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(corpus, Path(name) / file.stem, file) for file in files] + [pool.submit(probe, Path(name) / "probe")]
        for run in runs:
            more_good, more_bad, said = run.result()
            print(said)
            good, bad = good + more_good, bad + more_bad
    print(f"{good} passed, {bad} failed")
    sys.exit(1 if bad or not good else 0)


if __name__ == "__main__":
    try:
        main()
    finally:
        program.stop_all()
        namespace.delete_all()
