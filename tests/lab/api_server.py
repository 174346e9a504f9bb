"""A Kubernetes API server with its etcd, on loopback: the programs are those of KUBEBUILDER_ASSETS. There is no kubelet and no controller manager."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from .namespace import HOME
from .program import Program, until

SECONDS = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class ApiServer:
    """It is ready when it is made; what it keeps is gone with its folder. `address`: where pods reach what runs beside it, in `place`."""

    def __init__(self, folder: Path, place=HOME, address: str = "127.0.0.1"):
        self.assets, self.folder, self.port = Path(os.environ["KUBEBUILDER_ASSETS"]), folder, free_port()
        self.place, self.address = place, address
        self.store = f"http://127.0.0.1:{free_port()}"
        subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
        controller = "system:serviceaccount:eastwall-system:eastwall-controller"
        (folder / "tokens.csv").write_text(f'admin-token,admin,admin,"system:masters"\ncontroller-token,{controller},controller\n')
        self.programs = [
            self.program("etcd", f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={self.store}", f"--advertise-client-urls={self.store}",
                         "--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync"),
        ]
        self.start()

    def start(self) -> None:
        """Beside the etcd that runs."""
        folder, key = self.folder, self.folder / "sa.key"
        # Webhooks are called at the endpoints of their Service: there is no kube-proxy. Endpoints are never on loopback.
        routed = [] if self.address.startswith("127.") else [f"--advertise-address={self.address}", "--enable-aggregator-routing=true"]
        self.programs.append(
            self.program("kube-apiserver", f"--etcd-servers={self.store}", "--bind-address=127.0.0.1", f"--secure-port={self.port}", f"--cert-dir={folder}",
                         f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
                         "--allow-privileged=true", "--disable-admission-plugins=ServiceAccount", f"--service-account-issuer=https://127.0.0.1:{self.port}/",
                         f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}", *routed)
        )
        until(self.is_ready, "the API server is ready", SECONDS, 0.2)

    def kill(self) -> None:
        """As a crash would; what etcd holds stays."""
        server = self.programs.pop()
        server.signal(signal.SIGKILL)
        server.stop()

    def program(self, name: str, *words: str) -> Program:
        return Program(self.place, [self.assets / name, *words], self.folder, name)

    def is_ready(self) -> bool:
        for each in self.programs:
            if not each.alive():
                raise RuntimeError(f"{each.label} ended with {each.process.returncode}\n{each.text()[-4000:]}")
        return self.kubectl("get", "--raw", "/readyz").returncode == 0

    def stop(self) -> None:
        for each in reversed(self.programs):
            each.stop(20)

    def kubectl(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess:
        """As an administrator; the configuration of whoever runs the tests is neither read nor written."""
        server = [f"--server=https://127.0.0.1:{self.port}", "--token=admin-token", "--insecure-skip-tls-verify"]
        own = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        return subprocess.run(self.place.command([self.assets / "kubectl", *server, *words]), input=text, capture_output=True, text=True, cwd=self.folder, env=own)

    def done(self, *words: str, text: str | None = None) -> str:
        """The output of a call that must succeed."""
        done = self.kubectl(*words, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def token(self, namespace: str, pod: str, account: str, audience: str = "eastwall-controller", seconds: int = 3600) -> str:
        """Of a service account, bound to a pod of it."""
        return self.done("create", "token", account, "-n", namespace, f"--audience={audience}", f"--duration={seconds}s", "--bound-object-kind=Pod", f"--bound-object-name={pod}")

    def get(self, *words: str) -> dict:
        return json.loads(self.done("get", *words, "-o", "json"))

    def install(self, *paths: Path) -> None:
        """Files and folders, and waits for the definitions among them."""
        for path in paths:
            self.done("apply", "--server-side", "-k" if (path / "kustomization.yaml").exists() else "-f", str(path))
        self.done("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=eastwall", f"--timeout={SECONDS}s")

    def put(self, document: dict, *words: str) -> subprocess.CompletedProcess:
        return self.kubectl("apply", "--server-side", "--force-conflicts", *words, "-f", "-", text=json.dumps(document))
