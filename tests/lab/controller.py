"""A replica of the controller beside an API server, with the rights of its service account and no more."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from .api_server import SECONDS, ApiServer, free_port
from .program import Program, until


class Controller:
    """It runs when it is made, where the API server does; `ready` waits until it knows the cluster."""

    def __init__(self, api: ApiServer, name: str, *words: str):
        self.api, self.name, self.admin, self.webhook, self.proxies = api, name, free_port(), free_port(), free_port()
        config = api.folder / "controller.kubeconfig"
        cluster = {"server": f"https://127.0.0.1:{api.port}", "insecure-skip-tls-verify": True}
        config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}], "users": [{"name": "it", "user": {"token": "controller-token"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": "eastwall-system"}}],
        }))
        self.command = [os.environ["EASTWALL_CONTROLLER"], "--identity", name, "--admin", f"127.0.0.1:{self.admin}", "--webhook", f"{api.address}:{self.webhook}",
                        "--webhook-name", api.address, "--proxies", f"{api.address}:{self.proxies}", "--lease-duration", "5", *words]
        self.environment = {"KUBECONFIG": str(config), "NO_COLOR": "1"}
        self.start()

    def start(self) -> Controller:
        """Anew after its end, at the same addresses."""
        self.program = Program(self.api.place, self.command, self.api.folder, self.name, environment=self.environment)
        return self

    def flags(self, folder: Path, namespace: str, pod: str) -> list[str]:
        """Those by which the proxy of a pod follows it; `folder` has the proxy's token and roots, and keeps its state."""
        return [f"--controller={self.api.address}:{self.proxies}", f"--controller-ca={folder / 'ca.crt'}", f"--controller-token={folder / 'token'}",
                f"--controller-state={folder / 'state'}", f"--pod-namespace={namespace}", f"--pod-name={pod}"]

    def roots(self) -> str:
        """Whom its proxies are to believe, once it has told."""
        words = ["get", "configmap", "eastwall-controller-ca", "-n", "eastwall-system", "-o", r"jsonpath={.data.ca\.crt}"]
        return self.until("the roots are told", lambda: self.api.kubectl(*words).stdout)

    def http(self, path: str) -> tuple[int, str]:
        """The answer of the admin server; 0 where there is none."""
        try:
            with self.api.place.connect("127.0.0.1", self.admin, 5) as stream:
                stream.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
                answer = b"".join(iter(lambda: stream.recv(65_536), b"")).decode()
        except OSError:
            return 0, ""
        return int(answer.split()[1]), answer.split("\r\n\r\n", 1)[1]

    def metric(self, series: str) -> float:
        """0 where the series is not there yet."""
        lines = self.http("/metrics")[1].splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{series} ")), 0.0)

    def objects(self, kind: str) -> float:
        return self.metric(f'eastwall_controller_objects{{kind="{kind}"}}')

    def leads(self) -> bool:
        return self.metric("eastwall_controller_leader") == 1

    def until(self, what: str, holds, seconds: float = SECONDS):
        try:
            return until(holds, f"{self.name}: {what}", seconds, 0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.program.text()[-6000:]}") from None

    def ready(self) -> Controller:
        self.until("it is ready", lambda: self.http("/readyz")[0] == 200)
        return self

    def kill(self) -> None:
        if self.program.alive():
            self.program.signal(signal.SIGKILL)
        self.program.stop()

    def stop(self) -> int:
        return self.program.stop(20)
