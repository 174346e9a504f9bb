"""The proxy under test: its files, its life, and what it says (readiness, metrics, access log). Everything by the command line."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import yaml

from .namespace import HOME, Namespace
from .network import Network, Pod
from .program import Program, until

SIDECAR_UID = 1337
ADMIN_PORT = 15090
HANG_GUARD = 20


def binary() -> str:
    """The `eastwall` that is tested: `EASTWALL`, or the release build of this checkout."""
    root = Path(__file__).resolve().parents[2]
    path = Path(os.environ.get("EASTWALL") or root / "target" / "release" / "eastwall")
    if not path.exists():
        raise AssertionError(f"{path} does not exist: build it (cargo build --release --bin eastwall) or set EASTWALL")
    return str(path.resolve())


def call(*arguments, stdin: str | None = None, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess:
    """Runs `eastwall` to its end."""
    done = subprocess.run([binary(), *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise AssertionError(f"eastwall {' '.join(map(str, arguments))} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def decide(policies: list[Path], workloads: Path | None, requests: list[dict]) -> dict:
    """`eastwall decide`: the verdicts by id."""
    arguments = ["decide", "--requests", "-"]
    for policy in policies:
        arguments += ["--policy", policy]
    if workloads:
        arguments += ["--workloads", workloads]
    done = call(*arguments, stdin="".join(json.dumps(request) + "\n" for request in requests))
    return {verdict["id"]: verdict for verdict in map(json.loads, done.stdout.splitlines())}


def policy(name: str, account: str, ingress: list | None = None, egress: list | None = None, namespace: str = "shop", **spec) -> dict:
    """A FirewallPolicy whose subject is one service account."""
    body = {"subject": [{"serviceAccount": account}]} | spec
    if ingress is not None:
        body["ingress"] = ingress
    if egress is not None:
        body["egress"] = egress
    return {"apiVersion": "eastwall.dev/v1alpha1", "kind": "FirewallPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": body}


def cluster_policy(name: str, tier: str, **spec) -> dict:
    """A ClusterFirewallPolicy of a tier."""
    return {"apiVersion": "eastwall.dev/v1alpha1", "kind": "ClusterFirewallPolicy", "metadata": {"name": name}, "spec": {"tier": tier} | spec}


def settings(**spec) -> dict:
    """The DialectSettings singleton."""
    return {"apiVersion": "eastwall.dev/v1alpha1", "kind": "DialectSettings", "metadata": {"name": "cluster"}, "spec": spec}


def replace_file(path: Path, text: str) -> None:
    """Atomic, as careful editors and controllers do it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    os.replace(fresh, path)


class Firewall:
    """One `eastwall proxy`. `place` is where it runs: the node's namespace, a pod's, or the test's own."""

    def __init__(self, folder: Path, mode: str, place=HOME, policies: list[dict] = (), workloads: list[dict] = (), listen: str | None = None,
                 upstream: str | None = None, uid: int | None = None, admin: str | None = None, arguments: list = (), drain: str = "5s"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self.mode, self.place, self.uid, self.drain = mode, place, uid, drain
        self.listen, self.upstream, self.arguments = listen, upstream, list(arguments)
        self.policy_folder = self.folder / "policies"
        self.policy_folder.mkdir(exist_ok=True)
        self.workloads_file = self.folder / "workloads.yaml"
        self.own = self.folder / "own"
        self.own.mkdir(exist_ok=True)
        if uid is not None:
            shutil.chown(self.own, uid, uid)
        self.log_file = self.own / "access.jsonl"
        self.admin_socket = self.own / "admin.sock"
        self.admin = admin or f"127.0.0.1:{ADMIN_PORT}"
        self.program: Program | None = None
        self.starts = 0
        self._log: list[dict] = []
        self._log_read = 0
        self.write_policies(policies)
        self.write_workloads(workloads)

    # === its files ===

    def write_policies(self, documents: list[dict], name: str = "policy.yaml") -> None:
        self.write_policy_text(yaml.safe_dump_all(list(documents), sort_keys=False), name)

    def write_policy_text(self, text: str, name: str = "policy.yaml") -> None:
        replace_file(self.policy_folder / name, text)

    def write_workloads(self, entries: list[dict]) -> None:
        replace_file(self.workloads_file, yaml.safe_dump(list(entries), sort_keys=False))

    # === its life ===

    def command(self) -> list:
        line = [binary(), "proxy", "--mode", self.mode, "--policy", self.policy_folder, "--workloads", self.workloads_file, "--admin", self.admin,
                "--admin-socket", self.admin_socket, "--access-log", self.log_file, "--drain", self.drain, "--workers", "2"]
        if self.mode == "gateway":
            line += ["--listen", self.listen, "--upstream", self.upstream]
        return [str(part) for part in line + self.arguments]

    def launch(self) -> "Firewall":
        """Starts it and does not wait."""
        self.starts += 1
        self.program = Program(self.place, self.command(), self.folder, f"eastwall-{self.starts}", uid=self.uid)
        return self

    def start(self) -> "Firewall":
        """Starts it and waits until it is ready."""
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        def ready():
            if not self.program.alive():
                raise RuntimeError(f"eastwall ended with {self.program.process.returncode}\n{self.program.text()}")
            return self.ask("/readyz")[0] == 200

        try:
            until(ready, "readiness", HANG_GUARD)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from error

    def said(self) -> str:
        return self.program.text()[-4000:] if self.program else ""

    def stop(self) -> int | None:
        code = self.program.stop(8) if self.program else None
        self.program = None
        return code

    def kill(self) -> None:
        """`kill -9`."""
        self.program.signal(signal.SIGKILL)
        self.program.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and self.program is not None:
            print(f"--- eastwall said ---\n{self.said()}")
            if self.log_file.exists():
                print("--- access log ---\n" + "\n".join(self.log_file.read_text().splitlines()[-20:]))
        self.stop()

    # === what it says ===

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        """One request to the admin server over TCP."""
        host, port = self.admin.rsplit(":", 1)
        with self.place.connect(host.strip("[]"), int(port), timeout=5) as connection:
            return _exchange(connection, method, path)

    def ask_socket(self, path: str, method: str = "GET") -> tuple[int, str]:
        """One request to the admin server over its Unix socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(self.admin_socket))
            return _exchange(connection, method, path)

    def metrics(self) -> dict[str, float]:
        """Every sample, by its name and labels as printed."""
        text = self.ask("/metrics")[1]
        samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def metric(self, name: str, **labels) -> float:
        """The sum of the samples of a metric that carry these labels; 0 where there is none."""
        total = 0.0
        for key, value in self.metrics().items():
            if key.partition("{")[0] == name and all(f'{label}="{wanted}"' in key for label, wanted in labels.items()):
                total += value
        return total

    def complaints(self) -> list:
        """What `/readyz` says is not in force as it stands."""
        policy = json.loads(self.ask("/readyz")[1])["policy"]
        return policy["errors"] + policy["held"] + ([policy["workloads"]] if policy["workloads"] else [])

    def reloads(self) -> float:
        """Reloads so far, whatever came of them."""
        return self.metric("eastwall_policy_reloads_total")

    def generation(self) -> int:
        return int(self.metric("eastwall_policy_generation"))

    def reload_and_wait(self, change, timeout: float = HANG_GUARD) -> int:
        """Makes a change of files and waits for a new generation."""
        before = self.generation()
        change()
        return until(lambda: (now := self.generation()) > before and now, f"a generation after {before}", timeout)

    def log(self) -> list[dict]:
        """The access log so far, whole lines only."""
        if self.log_file.exists():
            with open(self.log_file, "rb") as file:
                file.seek(self._log_read)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._log_read += len(whole)
            self._log += [json.loads(line) for line in whole.splitlines() if line.strip()]
        return list(self._log)

    def wait_log(self, condition, timeout: float = 10) -> dict:
        """The first line that meets the condition."""
        return until(lambda: next((line for line in self.log() if condition(line)), None), "a line of the access log", timeout)


def _exchange(connection: socket.socket, method: str, path: str) -> tuple[int, str]:
    connection.sendall(f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
    data = b""
    while part := connection.recv(65536):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if re.search(rb"(?i)transfer-encoding: *chunked", head):
        whole = b""
        while body:
            size, _, rest = body.partition(b"\r\n")
            if int(size, 16) == 0:
                break
            whole, body = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        body = whole
    return status, body.decode(errors="replace")


# === the two ways of interception ===


def node_firewall(folder: Path, network: Network, policies: list[dict], protected: list[dict], **more) -> Firewall:
    """Node mode on the network's node. `protected`: the entries of the workloads file."""
    return Firewall(folder, "node", network.node, policies, protected + [network.node_entry()], **more)


def redirect(place: Namespace, action: str, mode: str, *more) -> subprocess.CompletedProcess:
    """`eastwall redirect apply|delete|print` inside a namespace."""
    return place.run([binary(), "redirect", action, "--mode", mode, *more])


class Sidecar(Firewall):
    """Sidecar mode in one pod: rules first, then the proxy as its own user without capabilities."""

    def __init__(self, folder: Path, pod: Pod, policies: list[dict], workloads: list[dict], **more):
        super().__init__(folder, "sidecar", pod, policies, workloads, uid=SIDECAR_UID, **more)

    def apply(self) -> None:
        """The rules, those for what is not proxied included; a change of policy for UDP needs them again, for the proxy may not touch them."""
        redirect(self.place, "apply", "sidecar", "--uid", SIDECAR_UID, "--workloads", self.workloads_file, "--policy", self.policy_folder,
                 "--workload", f"shop/{self.place.label}", *self._family())

    def _family(self) -> list:
        """The `--family` that the proxy was given, for its rules."""
        return self.arguments[self.arguments.index("--family") :][:2] if "--family" in self.arguments else []

    def start(self) -> "Sidecar":
        self.apply()
        super().start()
        return self
