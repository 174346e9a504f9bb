"""Large transfers: a server that hashes what is put and hands out what can be hashed. `python -m lab.transfer PORT`."""

import hashlib
import socketserver
import sys
from http.server import BaseHTTPRequestHandler

BLOCK = hashlib.shake_128(b"eastwall").digest(1 << 20)


def digest(size: int) -> str:
    """The checksum of `size` bytes of the stream."""
    whole = hashlib.blake2b(digest_size=16)
    for at in range(0, size, len(BLOCK)):
        whole.update(BLOCK[: min(len(BLOCK), size - at)])
    return whole.hexdigest()


class Handler(BaseHTTPRequestHandler):
    """GET /SIZE hands out; PUT answers the checksum of what came."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        size = int(self.path.strip("/"))
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for at in range(0, size, len(BLOCK)):
            self.wfile.write(BLOCK[: min(len(BLOCK), size - at)])

    def do_PUT(self):
        whole = hashlib.blake2b(digest_size=16)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                whole.update(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers["Content-Length"])
            while left:
                part = self.rfile.read(min(left, 1 << 20))
                if not part:
                    return
                left -= len(part)
                whole.update(part)
        body = whole.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(("", int(sys.argv[1])), Handler) as server:
        server.serve_forever()
