"""Whoever makes tokens: keys, sets of public keys, and a server that hands them out."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import ssl
import threading
import time
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

KINDS = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "RS512": lambda: rsa.generate_private_key(65537, 2048),
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


class Signer:
    """One key and its name."""

    def __init__(self, algorithm: str, kid: str | None = None):
        self.algorithm, self.kid = algorithm, kid or algorithm
        self.key = KINDS[algorithm]()

    def jwk(self) -> dict:
        """The public key (RFC 7517)."""
        made = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.key.public_key(), as_dict=True)
        return {name: value for name, value in made.items() if name != "key_ops"} | {"kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def pem(self) -> bytes:
        """The public key, as a server of HS256 would mistake it for its secret."""
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(self, claims: dict, **header) -> str:
        return jwt.encode(claims, self.key, self.algorithm, headers={"kid": self.kid} | header)


def jwks(*signers: Signer) -> str:
    """The set of their public keys."""
    return json.dumps({"keys": [signer.jwk() for signer in signers]})


def claims(**more) -> dict:
    """Of a token that is good for an hour; a claim that is `None` is left out."""
    whole = {"iss": "https://sso.example.com", "sub": "kim", "aud": "orders", "exp": int(time.time()) + 3600, "role": "refund"} | more
    return {name: value for name, value in whole.items() if value is not None}


class KeyServer:
    """Answers every path with what `documents` has for it, on a port of a namespace, with TLS where a certificate is given."""

    def __init__(self, place, address: str, port: int, documents: dict[str, str], tls: tuple[Path, Path] | None = None):
        self.place, self.address, self.port, self.tls = place, address, port, tls
        self.documents = documents
        self.asked: list[str] = []
        self.server = None
        self.open()

    def open(self) -> None:
        keeper = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                keeper.asked.append(self.path)
                text = keeper.documents.get(self.path)
                self.send_response(200 if text is not None else 404)
                body = (text or "").encode()
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((self.address, self.port), Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = self.place.listen(self.address, self.port)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def authority(folder: Path, address: str) -> tuple[Path, tuple[Path, Path]]:
    """A certificate authority, and a certificate and key of it for an address."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def certificate(name: str, issuer: str, public, signer, *extensions):
        named = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        made = (x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer)).public_key(public).serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1)))
        for extension in extensions:
            made = made.add_extension(extension, critical=False)
        return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    files = [folder / name for name in ("ca.pem", "server.pem", "server.key")]
    files[0].write_bytes(certificate("ca", "ca", root.public_key(), root, x509.BasicConstraints(True, None)))
    files[1].write_bytes(certificate("server", "ca", leaf.public_key(), root, x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])))
    files[2].write_bytes(leaf.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files[0], (files[1], files[2])
