"""The issuers of a suite's tokens: each case's claims in a token that is really signed, and both dialects told whose keys those are."""

from __future__ import annotations

import time
from pathlib import Path

import yaml

from .tokens import Signer, jwks

ALGORITHMS = ("RS256", "ES256", "EdDSA")
HOUR = 3600
# Past what clocks may be apart.
LONG_AGO = 600


class Issuers:
    """Those that the claims of cases name, with a key each, of one kind after the other."""

    def __init__(self, cases: list[dict]):
        names = sorted({case["jwt"]["iss"] for case in cases if case.get("jwt")})
        self.signers = {name: Signer(ALGORITHMS[at % len(ALGORITHMS)]) for at, name in enumerate(names)}
        self.asked = any("jwt" in case for case in cases)

    def request_authentication(self, namespaces: set[str]) -> str:
        """Documents by which every workload of these namespaces accepts the tokens, with the keys written in them."""
        rules = [{"issuer": name, "jwks": jwks(signer)} for name, signer in self.signers.items()]
        made = [{"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": {"name": "tokens-of-the-suite", "namespace": namespace},
                 "spec": {"jwtRules": rules}} for namespace in sorted(namespaces)]
        return yaml.safe_dump_all(made)

    def config(self, folder: Path) -> Path:
        """A configuration by which native rules believe the issuers, with the keys in files."""
        accepted = []
        for at, (name, signer) in enumerate(self.signers.items()):
            keys = folder / f"keys-{at}.json"
            keys.write_text(jwks(signer))
            accepted.append({"issuer": name, "anyAudience": True, "jwks": str(keys)})
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump({"tokens": accepted}))
        return config

    def token(self, claims: dict | None) -> str:
        """Good for an hour; one that nobody can read, where the case says that the token cannot be seen."""
        return "unreadable" if claims is None else self.signers[claims["iss"]].sign({"exp": int(time.time()) + HOUR} | claims)

    def forgeries(self, claims: dict | None) -> dict[str, str]:
        """Tokens with the same claims that nobody may believe, by what is wrong with them."""
        if claims is None:
            return {}
        signer = self.signers[claims["iss"]]
        good = {"exp": int(time.time()) + HOUR} | claims
        return {
            "signed with another key": Signer(signer.algorithm).sign(good),
            "expired": signer.sign(good | {"exp": int(time.time()) - LONG_AGO}),
        }


def bearing(request: dict, token: str) -> dict:
    """The request with a token."""
    return request | {"headers": [*(request.get("headers") or []), ["authorization", f"Bearer {token}"]]}


def speaks_istio(policies: list[Path]) -> bool:
    return any((document or {}).get("apiVersion", "").startswith("security.istio.io/") for policy in policies for document in yaml.safe_load_all(policy.read_text()))
