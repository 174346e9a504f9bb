"""A SPIFFE Workload API: the published service (`SpiffeWorkloadAPI.FetchX509SVID`), its messages written field by field."""

from __future__ import annotations

import queue
import threading
from concurrent import futures

import grpc
from cryptography.hazmat.primitives import serialization

METHOD = "/SpiffeWorkloadAPI/FetchX509SVID"
DER = serialization.Encoding.DER


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a Protocol Buffers message."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def response(principal: str, identity, authorities: list, federated: dict[str, list] | None = None) -> bytes:
    """X509SVIDResponse: svids = 1 {spiffe_id = 1, x509_svid = 2, x509_svid_key = 3, bundle = 4}, federated_bundles = 3."""
    der = lambda certificates: b"".join(one.public_bytes(DER) for one in certificates)
    key = identity.key.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    svid = _field(1, principal.encode()) + _field(2, der([identity.certificate, *identity.chain])) + _field(3, key) + _field(4, der(authorities))
    message = _field(1, svid)
    for domain, bundle in (federated or {}).items():
        message += _field(3, _field(1, f"spiffe://{domain}".encode()) + _field(2, der(bundle)))
    return message


class WorkloadApi:
    """One agent, on a Unix socket that the proxy's user can reach; what is given is sent to whoever asks, and again when it changes."""

    def __init__(self, socket):
        self.socket, self.now, self.streams, self.lock = socket, b"", [], threading.Lock()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        self.server.add_generic_rpc_handlers((self,))
        self.server.add_insecure_port(f"unix:{socket}")
        self.server.start()
        socket.chmod(0o666)

    def service(self, details):
        if details.method != METHOD:
            return None
        # SPEC: SPIFFE Workload Endpoint 6, a caller without this header may be somebody's browser.
        asked = dict(details.invocation_metadata).get("workload.spiffe.io") == "true"
        return grpc.unary_stream_rpc_method_handler(self.follow if asked else self.refuse)

    def refuse(self, _, context):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing")

    def follow(self, _, context):
        mine = queue.Queue()
        with self.lock:
            self.streams.append(mine)
            mine.put(self.now)
        context.add_callback(lambda: mine.put(None))
        while (message := mine.get()) is not None:
            if message:
                yield message

    def give(self, message: bytes) -> None:
        with self.lock:
            self.now = message
            for stream in self.streams:
                stream.put(message)

    def stop(self) -> None:
        self.server.stop(0).wait(5)
