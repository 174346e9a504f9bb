"""Asks Envoy: HTTP requests byte for byte as they are, and bytes that are no HTTP."""

import socket
import ssl

from certificates import Authority, token

TIMEOUT = 5


class Connection:
    """From one source, perhaps with a certificate, to one address and port. Opened again where Envoy closed it."""

    def __init__(self, authority: Authority, way: dict):
        self.way, self.socket = way, None
        self.context = None
        if way["principal"] is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
            self.context.load_cert_chain(authority.certificate(way["principal"]))

    def open(self) -> socket.socket:
        if self.socket is None:
            plain = socket.create_connection((self.way["address"], self.way["port"]), TIMEOUT, source_address=(self.way["source"], 0))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = self.context.wrap_socket(plain, server_hostname=self.way["sni"]) if self.context else plain
        return self.socket

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def http(self, request: dict) -> str:
        """`allow`, `deny`, or `reject` where Envoy takes it for no request."""
        status, closes = exchange(self.open(), head(request))
        if closes:
            self.close()
        # No route for `*`: that is asked behind the filters.
        verdict = {200: "allow", 404: "allow", 403: "deny", 400: "reject"}.get(status)
        assert verdict, f"Envoy answers {status} to {request}"
        return verdict

    def tcp(self) -> str:
        """Whether a line comes back."""
        try:
            self.open().sendall(b"line\n")
            return "allow" if self.socket.recv(64) == b"line\n" else "deny"
        except ConnectionError:
            return "deny"
        finally:
            self.close()


def head(request: dict) -> bytes:
    target = request["path"] + (f"?{request['query']}" if request["query"] is not None else "")
    lines = [f"{request['method']} {target} HTTP/1.1", f"Host: {request['host']}"]
    lines += [f"{name}: {value}" for name, value in request["headers"]]
    if request["jwt"] is not None:
        lines.append(f"Authorization: Bearer {token(request['jwt'])}")
    if request["method"] in ("POST", "PUT", "PATCH"):
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def exchange(to: socket.socket, head: bytes) -> tuple[int, bool]:
    """Sends one request and reads one answer: its status, and whether the connection ends with it."""
    to.sendall(head)
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = to.recv(65536)
        assert part, f"Envoy closed without an answer to {head!r}"
        answer += part
    front, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = front.split(b"\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    length = 0 if head.startswith(b"HEAD ") else int(fields.get(b"content-length", b"0"))
    while len(body) < length:
        body += to.recv(65536)
    return int(status.split()[1]), fields.get(b"connection") == b"close"
