"""The policy sets: one folder of YAML, one file a set, all about one workload."""

from dataclasses import dataclass
from pathlib import Path

import pilot
import yaml

HTTP_PORTS = (8080, 8081)
TCP_PORTS = (9000, 9001)
NAMESPACE, WORKLOAD, ACCOUNT = "foo", "httpbin", "httpbin"
LABELS = {"app": "httpbin", "version": "v1"}

# Who else is registered, and where: to Istio that means nothing.
SOURCES = {
    "127.8.0.1": ("foo", "sleep"),
    "127.8.0.2": ("bar", "curl"),
    "127.8.0.3": None,
    "127.8.1.1": ("bar", "sleep"),
    "127.8.1.2": None,
    "127.8.2.1": ("x", "y"),
    "127.8.2.2": None,
    "127.8.3.1": None,
}


@dataclass
class PolicySet:
    """One set, and the addresses at which Envoy serves it."""

    name: str
    file: Path
    documents: list[dict]
    addresses: tuple[str, str]

    @property
    def settings(self) -> dict:
        found = [document for document in self.documents if document["kind"] == "DialectSettings"]
        return found[0]["spec"].get("istio", {}) if found else {}

    @property
    def mesh(self) -> pilot.Mesh:
        return pilot.Mesh(self.settings.get("trustDomain", "cluster.local"), self.settings.get("trustDomainAliases", []))

    @property
    def applying(self) -> list[dict]:
        istio = [document for document in self.documents if document["apiVersion"].startswith("security.istio.io/")]
        return [document for document in istio if pilot.selects(document, NAMESPACE, LABELS)]

    @property
    def jwt_rules(self) -> list[dict]:
        found = [document for document in self.applying if document["kind"] == "RequestAuthentication"]
        return sorted((rule for document in found for rule in document["spec"]["jwtRules"]), key=lambda rule: rule["issuer"])

    def workloads(self) -> list[dict]:
        ports = [{"name": f"http-{port}", "port": port} for port in HTTP_PORTS]
        ports += [{"name": f"tcp-{port}", "port": port} for port in TCP_PORTS]
        own = {"name": WORKLOAD, "namespace": NAMESPACE, "serviceAccount": ACCOUNT, "labels": LABELS, "ips": list(self.addresses), "ports": ports}
        others = [
            {"name": f"source-{index}", "namespace": who[0], "serviceAccount": who[1], "ips": [address]}
            for index, (address, who) in enumerate(SOURCES.items()) if who
        ]
        return [own, *others]


def all_sets() -> list[PolicySet]:
    files = sorted((Path(__file__).parent / "policies").glob("*.yaml"))
    return [
        PolicySet(file.stem, file, [document for document in yaml.safe_load_all(file.read_text()) if document],
                  (f"127.7.1.{number}", f"127.7.200.{number}"))
        for number, file in enumerate(files, 1)
    ]
