"""Envoy with every policy set at addresses of its own, each listener configured as Istio configures a sidecar's."""

import json
import os
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

import pilot
from certificates import Authority, key_set
from sets import HTTP_PORTS, TCP_PORTS, PolicySet

TYPE = "type.googleapis.com/envoy"


class Proxy:
    """A running Envoy; everything it listens on is in 127.7.0.0/16."""

    def __init__(self, program: Path, folder: Path, sets: list[PolicySet], authority: Authority):
        configuration, self.log = folder / "envoy.json", folder / "envoy.log"
        listeners = [each for policies in sets for each in (http(policies, authority), tcp(policies, authority))]
        admin = folder / "admin"
        configuration.write_text(json.dumps({
            "staticResources": {"listeners": listeners},
            "admin": {"address": address("127.0.0.1", 0)},
        }))
        arguments = [program, "-c", configuration, "--admin-address-path", admin, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(list(map(str, arguments)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, "ENVOY_UID": "0"})
        end = time.monotonic() + 30
        while not is_ready(admin):
            assert self.process.poll() is None and time.monotonic() < end, f"Envoy does not start:\n{self.log.read_text()[-4000:]}"
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def is_ready(admin: Path) -> bool:
    """Whether every listener is open; `admin` names the address to ask."""
    if not (admin.exists() and admin.read_text()):
        return False
    try:
        return urlopen(f"http://{admin.read_text()}/ready", timeout=5).status == 200
    except OSError:
        return False


def address(ip: str, port: int) -> dict:
    return {"socketAddress": {"address": ip, "portValue": port}}


def listener(name: str, policies: PolicySet, ports: tuple, filters: list, authority: Authority) -> dict:
    first, *others = [address(ip, port) for ip in policies.addresses for port in ports]
    tls = {
        "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "requireClientCertificate": True,
        "commonTlsContext": {
            "tlsCertificates": [{"certificateChain": {"filename": str(authority.server)}, "privateKey": {"filename": str(authority.key)}}],
            "validationContext": {"trustedCa": {"filename": str(authority.root)}},
        },
    }
    return {
        "name": name,
        "address": first,
        "additionalAddresses": [{"address": other} for other in others],
        "listenerFilters": [{"name": "tls", "typedConfig": {"@type": f"{TYPE}.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],
        "filterChains": [
            {"filterChainMatch": {"transportProtocol": "tls"}, "filters": filters,
             "transportSocket": {"name": "tls", "typedConfig": tls}},
            {"filterChainMatch": {"transportProtocol": "raw_buffer"}, "filters": filters},
        ],
    }


def http(policies: PolicySet, authority: Authority) -> dict:
    normalization = policies.settings.get("pathNormalization", "Base")
    trusted = policies.settings.get("trustedProxies", 0)
    chain = [jwt(policies.jwt_rules)] if policies.jwt_rules else []
    for rules in pilot.filters(policies.applying, policies.mesh, tcp=False):
        chain.append({"name": "rbac", "typedConfig": {"@type": f"{TYPE}.extensions.filters.http.rbac.v3.RBAC", "rules": rules}})
    chain.append({"name": "router", "typedConfig": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"}})
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "statPrefix": policies.name,
        "codecType": "HTTP1",
        "normalizePath": normalization != "None",
        "mergeSlashes": normalization in ("MergeSlashes", "DecodeAndMergeSlashes"),
        "pathWithEscapedSlashesAction": "UNESCAPE_AND_FORWARD" if normalization == "DecodeAndMergeSlashes" else "KEEP_UNCHANGED",
        # Where proxies are trusted the peer is the last of them.
        "useRemoteAddress": trusted > 0,
        "xffNumTrustedHops": trusted,
        "routeConfig": {"virtualHosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "directResponse": {"status": 200, "body": {"inlineString": "ok"}}}],
        }]},
        "upgradeConfigs": [{"upgradeType": "websocket"}],
        "httpFilters": chain,
    }
    return listener(f"{policies.name} http", policies, HTTP_PORTS, [{"name": "http", "typedConfig": manager}], authority)


def jwt(rules: list[dict]) -> dict:
    """An invalid token is refused, a missing one is not."""
    providers, each = {}, []
    for index, rule in enumerate(rules):
        name = f"origins-{index}"
        spaced = sorted({*rule.get("spaceDelimitedClaims", []), "scope", "permission"})
        providers[name] = {
            "issuer": rule["issuer"], "forward": True, "payloadInMetadata": "payload",
            "normalizePayloadInMetadata": {"spaceDelimitedClaims": spaced},
            "localJwks": {"inlineString": key_set()},
        }
        each.append(name)
    or_missing = [{"requiresAny": {"requirements": [{"providerName": name}, {"allowMissing": {}}]}} for name in each]
    requires = or_missing[0]
    if len(each) > 1:
        requires = {"requiresAny": {"requirements": [*({"providerName": name} for name in each), {"requiresAll": {"requirements": or_missing}}]}}
    return {"name": "envoy.filters.http.jwt_authn", "typedConfig": {
        "@type": f"{TYPE}.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": providers, "rules": [{"match": {"prefix": "/"}, "requires": requires}], "bypassCorsPreflight": True,
    }}


def tcp(policies: PolicySet, authority: Authority) -> dict:
    filters = [
        {"name": "rbac", "typedConfig": {"@type": f"{TYPE}.extensions.filters.network.rbac.v3.RBAC", "statPrefix": "tcp.", "rules": rules}}
        for rules in pilot.filters(policies.applying, policies.mesh, tcp=True)
    ]
    filters.append({"name": "echo", "typedConfig": {"@type": f"{TYPE}.extensions.filters.network.echo.v3.Echo"}})
    return listener(f"{policies.name} tcp", policies, TCP_PORTS, filters, authority)
