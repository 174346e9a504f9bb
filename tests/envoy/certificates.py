"""A certificate authority of the test, client certificates with a SPIFFE id each, and tokens."""

import base64
import hashlib
import hmac
import json
import subprocess
from pathlib import Path

SECRET = b"a secret of the test, that Envoy and the test know"


class Authority:
    """Makes certificates with the `openssl` command, each identity once; all share one key."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.key, self.root = folder / "key.pem", folder / "root.pem"
        self.made: dict[str, Path] = {}
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key)
        openssl("req", "-x509", "-new", "-key", self.key, "-subj", "/CN=root", "-days", "2", "-out", self.root,
                "-addext", "keyUsage=critical,keyCertSign")
        self.server = self.certificate("spiffe://cluster.local/ns/foo/sa/httpbin")

    def certificate(self, identity: str) -> Path:
        if identity not in self.made:
            path = self.folder / f"client-{len(self.made)}.pem"
            configuration = self.folder / "extensions.cnf"
            configuration.write_text(f"[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n[name]\nO = test\n"
                                     f"[extensions]\nbasicConstraints = CA:FALSE\nsubjectAltName = @names\n[names]\nURI.1 = {identity}\n")
            openssl("req", "-x509", "-new", "-config", configuration, "-key", self.key, "-CA", self.root, "-CAkey", self.key, "-days", "2", "-out", path)
            path.write_bytes(path.read_bytes() + self.key.read_bytes())
            self.made[identity] = path
        return self.made[identity]


def openssl(*arguments) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"openssl {arguments}: {done.stderr}"


def token(claims: dict) -> str:
    """A signed token."""
    signed = ".".join(encoded(json.dumps(part, ensure_ascii=False).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{signed}.{encoded(hmac.new(SECRET, signed.encode(), hashlib.sha256).digest())}"


def key_set() -> str:
    return json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": encoded(SECRET)}]})


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
