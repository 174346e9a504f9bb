"""Who a workload proves to be: authorities, certificates that are right or wrong in one way, and a client that speaks HBONE."""

from __future__ import annotations

import datetime
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .firewall import replace_file
from .wire import Http2

DOMAIN = "cluster.local"
DAY = datetime.timedelta(days=1)
USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def spiffe(account: str, namespace: str = "shop", domain: str = DOMAIN) -> str:
    return f"spiffe://{domain}/ns/{namespace}/sa/{account}"


def _pem(key) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass
class Identity:
    """A certificate, with those that lead to its authority, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: list[x509.Certificate] = field(default_factory=list)

    def write(self, folder: Path, authorities: list[x509.Certificate]) -> Path:
        """As a proxy reads it: `tls.crt`, `tls.key`, `ca.crt`, the key last."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        replace_file(folder / "ca.crt", text(authorities))
        replace_file(folder / "tls.crt", text([self.certificate, *self.chain]))
        replace_file(folder / "tls.key", _pem(self.key).decode())
        return folder

    def load(self, context: ssl.SSLContext, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "client.pem").write_bytes(text([self.certificate, *self.chain]).encode() + _pem(self.key))
        context.load_cert_chain(folder / "client.pem")


def text(certificates: list[x509.Certificate]) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


class Authority:
    """Issues certificates: an own root, or below another authority."""

    def __init__(self, name: str = "root", above: "Authority | None" = None):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = x509.CertificateBuilder(above.name if above else self.name, self.name, self.key.public_key(), x509.random_serial_number(), now - DAY, now + DAY)
        made = made.add_extension(x509.BasicConstraints(True, None), True).add_extension(usage, True)
        self.certificate = made.sign((above or self).key, hashes.SHA256())
        self.chain = [self.certificate, *above.chain] if above else []

    def issue(self, *uris: str, begin: float = -1, end: float = 1, usages=USAGES, authority: bool = False, signs_certificates: bool = False,
              names: tuple = ()) -> Identity:
        """A certificate for these URIs, valid from `begin` to `end` days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder(self.name, x509.Name([]), key.public_key(), x509.random_serial_number(), now + begin * DAY, now + end * DAY)
        signs = x509.KeyUsage(True, False, False, False, False, signs_certificates, False, False, False)
        made = made.add_extension(x509.BasicConstraints(authority, None), True).add_extension(signs, True)
        alternatives = [x509.UniformResourceIdentifier(uri) for uri in uris] + [x509.DNSName(name) for name in names]
        if alternatives:
            made = made.add_extension(x509.SubjectAlternativeName(alternatives), True)
        if usages:
            made = made.add_extension(x509.ExtendedKeyUsage(usages), False)
        return Identity(made.sign(self.key, hashes.SHA256()), key, self.chain)


def self_signed(uri: str) -> Identity:
    """Nobody's word but its own."""
    own = Authority("self")
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(own.name, own.name, own.key.public_key(), x509.random_serial_number(), now - DAY, now + DAY)
    made = made.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), True)
    return Identity(made.sign(own.key, hashes.SHA256()), own.key)


def secure(connection: socket.socket, folder: Path, identity: Identity | None, alpn: tuple = ("h2",), newest=ssl.TLSVersion.TLSv1_3) -> ssl.SSLSocket:
    """TLS as a client that shows `identity`; the server is believed whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = newest
    context.set_alpn_protocols(list(alpn))
    if identity:
        identity.load(context, folder)
    return context.wrap_socket(connection)


class Hbone(Http2):
    """One connection of HBONE, and tunnels through it."""

    def __init__(self, connection: ssl.SSLSocket):
        super().__init__(connection)

    def connect(self, authority: str, method: str = "CONNECT", *more) -> int:
        """Asks for a tunnel; its stream."""
        fields = [(b":method", method.encode()), (b":authority", authority.encode())]
        if method != "CONNECT":
            fields += [(b":scheme", b"http"), (b":path", b"/")]
        return self.request(fields + list(more), end=method != "CONNECT")

    def send(self, data: bytes) -> None:
        try:
            super().send(data)
        except ssl.SSLError:
            self.closed = True

    def pump(self, timeout: float) -> bool:
        try:
            return super().pump(timeout)
        except ssl.SSLError:
            # An alert: TLS 1.3 has the server look at the client's certificate after the client is done.
            self.closed = True
            return False

    def status(self, stream: int) -> int | None:
        """What became of the CONNECT; `None` where the stream or the connection was ended instead."""
        return self.wait(stream, until=lambda answer: answer.status or answer.ended).status

    def ask(self, stream: int, path: str, method: str = "GET") -> int | None:
        """One request of HTTP/1 inside a tunnel; the status of its answer, `None` where the tunnel was ended instead."""
        before = len(self.streams[stream].body)
        self.data(stream, f"{method} {path} HTTP/1.1\r\nhost: orders\r\n\r\n".encode(), False)
        answer = self.wait(stream, until=lambda answer: b"\r\n\r\n" in bytes(answer.body)[before:] or answer.ended)
        head = bytes(answer.body)[before:]
        return int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else None
