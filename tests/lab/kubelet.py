"""What a kubelet does for an injected pod, in a network namespace: volumes become folders, then the sidecar's containers run as the API server holds them."""

from __future__ import annotations

import json
from pathlib import Path

from .api_server import ApiServer
from .firewall import Firewall, binary
from .network import Pod
from .program import Program


class Injected(Firewall):
    """The sidecar of a pod: what the pod's containers say is what runs, but for the places of their volumes."""

    def __init__(self, api: ApiServer, folder: Path, place: Pod, namespace: str, name: str):
        self.api, self.namespace, self.name = api, namespace, name
        self.pod = api.get("pod", name, "-n", namespace)
        folder = folder / self.pod["metadata"]["uid"]
        containers = {each["name"]: each for each in self.pod["spec"]["initContainers"]}
        self.rules, self.proxy = containers["eastwall-redirect"], containers["eastwall-proxy"]
        [port] = self.proxy["ports"]
        super().__init__(folder, "sidecar", place, uid=self.proxy["securityContext"]["runAsUser"], admin=f"127.0.0.1:{port['containerPort']}")
        self.volumes = {each["name"]: self.volume(each) for each in self.pod["spec"]["volumes"]}

    def volume(self, described: dict) -> Path:
        """As a folder that has what the volume has; whoever runs in the pod may write where it is an `emptyDir`."""
        made = self.folder / described["name"]
        made.mkdir()
        made.chmod(0o777 if "emptyDir" in described else 0o755)
        for source in described.get("projected", {}).get("sources", []):
            token = source["serviceAccountToken"]
            said = self.api.token(self.namespace, self.name, self.pod["spec"]["serviceAccountName"], token["audience"], token["expirationSeconds"])
            (made / token["path"]).write_text(said)
        if "configMap" in described:
            for key, text in self.api.get("configmap", described["configMap"]["name"], "-n", self.namespace)["data"].items():
                (made / key).write_text(text)
        return made

    def words(self, container: dict) -> list[str]:
        """Its command line, with folders of this machine."""
        line = [binary(), *container["command"][1:]]
        for mount in container.get("volumeMounts", []):
            line = [word.replace(f"{mount['mountPath']}/", f"{self.volumes[mount['name']]}/") for word in line]
        return line

    def environment(self) -> dict[str, str]:
        """What the proxy's variables are, those of the downward API included."""
        pod = self.pod
        fields = {"metadata.name": self.name, "metadata.namespace": self.namespace, "spec.nodeName": pod["spec"]["nodeName"],
                  "status.podIPs": ",".join(each["ip"] for each in pod["status"]["podIPs"])}
        return {each["name"]: each["value"] if "value" in each else fields[each["valueFrom"]["fieldRef"]["fieldPath"]] for each in self.proxy["env"]}

    def launch(self) -> Injected:
        self.starts += 1
        self.program = Program(self.place, self.words(self.proxy), self.folder, f"eastwall-{self.starts}", uid=self.uid, environment=self.environment())
        return self

    def start(self) -> Injected:
        """The rules, then the proxy, which is waited for."""
        self.place.run(self.words(self.rules))
        super().start()
        return self

    def log(self) -> list[dict]:
        """The access log, which goes where everything else goes that the container says; whole lines only."""
        text = self.program.text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line.startswith("{")]
