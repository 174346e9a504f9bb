"""A SPIRE agent's admin socket: the published Delegated Identity API (`SubscribeToX509SVIDs`, `SubscribeToX509Bundles`), its messages written field by field."""

from __future__ import annotations

import queue
import threading
from concurrent import futures

import grpc
from cryptography.hazmat.primitives import serialization

from .workload_api import DER, _field, _varint

SERVICE = "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/"


def svid(principal: str, identity, end: int = 0) -> bytes:
    """X509SVIDWithKey: x509_svid = 1 {cert_chain = 1, id = 2 {trust_domain = 1, path = 2}, expires_at = 3}, x509_svid_key = 2."""
    domain, _, path = principal.removeprefix("spiffe://").partition("/")
    chain = b"".join(_field(1, one.public_bytes(DER)) for one in [identity.certificate, *identity.chain])
    told = _field(2, _field(1, domain.encode()) + _field(2, b"/" + path.encode()))
    key = identity.key.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return _field(1, chain + told + _varint(3 << 3) + _varint(end)) + _field(2, key)


def svids(*given: bytes, federates_with: tuple = ()) -> bytes:
    """SubscribeToX509SVIDsResponse: x509_svids = 1, federates_with = 2."""
    return b"".join(_field(1, one) for one in given) + b"".join(_field(2, domain.encode()) for domain in federates_with)


def bundles(by_domain: dict[str, list]) -> bytes:
    """SubscribeToX509BundlesResponse: ca_certificates = 1, a map from the trust domain to certificates one after the other."""
    der = lambda certificates: b"".join(one.public_bytes(DER) for one in certificates)
    return b"".join(_field(1, _field(1, domain.encode()) + _field(2, der(held))) for domain, held in by_domain.items())


def _fields(message: bytes) -> list[tuple[int, bytes]]:
    """The length-delimited fields of a message that has no others."""
    found, at = [], 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            octet = message[at]
            at, value, shift = at + 1, value | (octet & 0x7F) << shift, shift + 7
            if octet < 0x80:
                return value

    while at < len(message):
        number, length = varint() >> 3, varint()
        found.append((number, message[at : at + length]))
        at += length
    return found


class SpireAgent:
    """Answers each set of selectors with what was given for it, and again when that changes."""

    def __init__(self, socket):
        self.socket, self.lock = socket, threading.Lock()
        self.bundle = b""
        self.answers: dict[frozenset, bytes] = {}
        self.asked: list[frozenset] = []
        self.streams: list[tuple[frozenset | None, queue.Queue]] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
        self.server.add_generic_rpc_handlers((self,))
        self.server.add_insecure_port(f"unix:{socket}")
        self.server.start()

    def service(self, details):
        calls = {SERVICE + "SubscribeToX509SVIDs": self.follow, SERVICE + "SubscribeToX509Bundles": lambda _, context: self._stream(None, context)}
        call = calls.get(details.method)
        return call and grpc.unary_stream_rpc_method_handler(call)

    def follow(self, request: bytes, context):
        selectors = frozenset(b":".join(value for _, value in _fields(one)).decode() for number, one in _fields(request) if number == 1)
        self.asked.append(selectors)
        return self._stream(selectors, context)

    def _stream(self, of: frozenset | None, context):
        mine = queue.Queue()
        with self.lock:
            self.streams.append((of, mine))
            # Nobody's selectors are an answer too, without an SVID.
            mine.put(self.bundle if of is None else self.answers.get(of, b""))
        context.add_callback(lambda: mine.put(None))
        while (message := mine.get()) is not None:
            yield message

    def trust(self, by_domain: dict[str, list]) -> None:
        self.bundle = bundles(by_domain)
        self._tell(None, self.bundle)

    def give(self, namespace: str, account: str, message: bytes) -> None:
        of = frozenset((f"k8s:ns:{namespace}", f"k8s:sa:{account}"))
        self.answers[of] = message
        self._tell(of, message)

    def _tell(self, of: frozenset | None, message: bytes) -> None:
        with self.lock:
            for held, stream in self.streams:
                if held == of:
                    stream.put(message)

    def stop(self) -> None:
        self.server.stop(0).wait(5)
