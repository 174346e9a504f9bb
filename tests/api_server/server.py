"""A real API server and controllers beside it, on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from kinds import ROOT

ASSETS = Path(os.environ["KUBEBUILDER_ASSETS"])
SECONDS = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what: str, holds, seconds: float = SECONDS, pause: float = 0.1, tell=lambda: ""):
    """Waits for a true value and gives it back."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s\n{tell()}"
        time.sleep(pause)
    return found


class Api:
    """etcd and the API server, in a folder of their own."""

    def __init__(self, folder: Path):
        self.etcd_port, self.port = free_port(), free_port()
        self.folder = folder
        self.processes: dict[str, subprocess.Popen] = {}
        subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
        controller = "system:serviceaccount:eastwall-system:eastwall-controller"
        (folder / "tokens.csv").write_text(f'admin-token,admin,admin,"system:masters"\ncontroller-token,{controller},controller\n')
        store = f"http://127.0.0.1:{self.etcd_port}"
        self.run("etcd", f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={store}", f"--advertise-client-urls={store}",
                 "--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync")
        self.start()

    def start(self) -> None:
        """The API server; its etcd runs."""
        key = self.folder / "sa.key"
        self.run("kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", "--bind-address=127.0.0.1", f"--secure-port={self.port}",
                 f"--cert-dir={self.folder}", f"--token-auth-file={self.folder / 'tokens.csv'}", "--authorization-mode=RBAC",
                 "--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount",
                 f"--service-account-issuer=https://127.0.0.1:{self.port}/", f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}")
        self.until("it is ready", lambda: self.kubectl("get", "--raw", "/readyz").returncode == 0)

    def kill(self) -> None:
        """Ends the API server as a crash would; what etcd holds stays."""
        process = self.processes.pop("kube-apiserver")
        process.kill()
        process.wait(20)

    def run(self, name: str, *words: str) -> None:
        log = (self.folder / f"{name}.log").open("a")
        self.processes[name] = subprocess.Popen([ASSETS / name, *words], stdout=subprocess.DEVNULL, stderr=log)

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
            process.wait(20)

    def kubectl(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess:
        server = [f"--server=https://127.0.0.1:{self.port}", "--token=admin-token", "--insecure-skip-tls-verify"]
        return subprocess.run([ASSETS / "kubectl", *server, *words], input=text, capture_output=True, text=True, cwd=self.folder)

    def done(self, *words: str, text: str | None = None) -> str:
        """The output of a call that must succeed."""
        done = self.kubectl(*words, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def put(self, document: dict, *words: str) -> subprocess.CompletedProcess:
        return self.kubectl("apply", "--server-side", "--force-conflicts", *words, "-f", "-", text=json.dumps(document))

    def get(self, *words: str) -> dict:
        return json.loads(self.done("get", *words, "-o", "json"))

    def until(self, what: str, holds, seconds: float = SECONDS):
        return until(what, holds, seconds, 0.2, lambda: (self.folder / "kube-apiserver.log").read_text()[-4000:])

    def install(self, *names: str) -> None:
        """Files and folders of deploy/, and waits for the definitions among them."""
        for name in names:
            self.done("apply", "--server-side", "-f", str(ROOT / "deploy" / name))
        self.done("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=eastwall", f"--timeout={SECONDS}s")


class Controller:
    """One replica, with the rights of its service account and no more."""

    def __init__(self, api: Api, name: str, *words: str):
        self.name, self.admin, self.webhook, self.proxies = name, free_port(), free_port(), free_port()
        self.log = api.folder / f"{name}.log"
        config = api.folder / "controller.kubeconfig"
        cluster = {"server": f"https://127.0.0.1:{api.port}", "insecure-skip-tls-verify": True}
        config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}], "users": [{"name": "it", "user": {"token": "controller-token"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": "eastwall-system"}}],
        }))
        command = [os.environ["EASTWALL_CONTROLLER"], "--identity", name, "--admin", f"127.0.0.1:{self.admin}", "--webhook", f"127.0.0.1:{self.webhook}",
                   "--webhook-name", "127.0.0.1", "--proxies", f"127.0.0.1:{self.proxies}", "--lease-duration", "5", *words]
        self.process = subprocess.Popen(command, stderr=self.log.open("w"), env=os.environ | {"KUBECONFIG": str(config), "NO_COLOR": "1"})

    def http(self, path: str) -> tuple[int, str]:
        """The answer of the admin server; 0 where there is none."""
        head = f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        try:
            with socket.create_connection(("127.0.0.1", self.admin), 5) as stream:
                stream.sendall(head)
                answer = b"".join(iter(lambda: stream.recv(65_536), b"")).decode()
        except OSError:
            return 0, ""
        return int(answer.split()[1]), answer.split("\r\n\r\n", 1)[1]

    def metric(self, series: str) -> float:
        """0 where the series is not there yet."""
        lines = self.http("/metrics")[1].splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{series} ")), 0.0)

    def until(self, what: str, holds, seconds: float = SECONDS):
        return until(f"{self.name}: {what}", holds, seconds, tell=lambda: self.log.read_text()[-6000:])

    def ready(self) -> Controller:
        self.until("it is ready", lambda: self.http("/readyz")[0] == 200)
        return self

    def leads(self) -> bool:
        return self.metric("eastwall_controller_leader") == 1

    def rss(self) -> int:
        """Bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def stop(self, how: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(20)
