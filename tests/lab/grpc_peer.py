"""Both ends of a gRPC service, with generic handlers: `python -m lab.grpc_peer serve ADDRESS` or `call ADDRESS WHAT`."""

import json
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "shop.v1.Orders"


def _plain(data: bytes) -> bytes:
    return data


class Orders(grpc.GenericRpcHandler):
    """Get (unary), Sum (client stream), Watch (server stream), Chat (both), Slow (never answers in time), Told (what was cancelled)."""

    def __init__(self):
        self.cancelled = 0
        self.calls: list[str] = []

    def service(self, details):
        self.calls.append(details.method)
        method = details.method.rpartition("/")[2]
        return {
            "Get": grpc.unary_unary_rpc_method_handler(self.get, _plain, _plain),
            "Delete": grpc.unary_unary_rpc_method_handler(self.get, _plain, _plain),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum, _plain, _plain),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, _plain, _plain),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat, _plain, _plain),
            "Slow": grpc.unary_unary_rpc_method_handler(self.slow, _plain, _plain),
            "Told": grpc.unary_unary_rpc_method_handler(self.told, _plain, _plain),
        }.get(method)

    def get(self, request, context):
        context.set_trailing_metadata((("x-served-by", "orders"),))
        return b"order " + request

    def sum(self, requests, context):
        return str(sum(int(each) for each in requests)).encode()

    def watch(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()
            if int(request) > 1000:
                time.sleep(0.05)

    def chat(self, requests, context):
        for each in requests:
            yield each.upper()

    def slow(self, request, context):
        gone = threading.Event()
        context.add_callback(gone.set)
        if gone.wait(20):
            self.cancelled += 1
        return b"late"

    def told(self, request, context):
        return json.dumps({"cancelled": self.cancelled, "calls": self.calls}).encode()


def serve(address: str) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(64), handlers=[Orders()])
    if not server.add_insecure_port(address):
        raise SystemExit(f"cannot listen on {address}")
    server.start()
    server.wait_for_termination()


def call(address: str, what: str) -> dict:
    """One behaviour, its outcome as JSON."""
    with grpc.insecure_channel(address) as channel:
        def path(name):
            return f"/{SERVICE}/{name}"

        try:
            if what in ("Get", "Delete"):
                answer, told = channel.unary_unary(path(what), _plain, _plain).with_call(b"7", timeout=10)
                return {"code": "OK", "answer": answer.decode(), "trailers": [list(map(str, each)) for each in told.trailing_metadata()]}
            if what == "Sum":
                return {"code": "OK", "answer": channel.stream_unary(path(what), _plain, _plain)((str(number).encode() for number in range(100)), timeout=10).decode()}
            if what == "Watch":
                return {"code": "OK", "answer": [each.decode() for each in channel.unary_stream(path(what), _plain, _plain)(b"100", timeout=10)]}
            if what == "Chat":
                said = []
                sent = threading.Semaphore(1)

                def words():
                    for word in (b"one", b"two", b"three"):
                        sent.acquire(timeout=10)  # the next word leaves when the last was answered: both ways at once
                        yield word

                for each in channel.stream_stream(path(what), _plain, _plain)(words(), timeout=10):
                    said.append(each.decode())
                    sent.release()
                return {"code": "OK", "answer": said}
            if what == "Deadline":
                channel.unary_unary(path("Slow"), _plain, _plain)(b"", timeout=0.5)
            if what == "Cancel":
                pending = channel.unary_unary(path("Slow"), _plain, _plain).future(b"", timeout=15)
                time.sleep(0.5)
                pending.cancel()
                return {"code": "CANCELLED" if pending.cancelled() else "?"}
            if what == "Told":
                return json.loads(channel.unary_unary(path("Told"), _plain, _plain)(b"", timeout=10))
            if what == "Hold":
                # Prints each word with its time; ends when the stream is cut.
                stream = channel.unary_stream(path("Watch"), _plain, _plain)(b"100000", timeout=60)
                for each in stream:
                    print(json.dumps({"at": time.time(), "word": each.decode()}), flush=True)
                return {"code": "OK"}
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": error.details(), "at": time.time()}
    raise SystemExit(f"unknown behaviour {what}")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        print(json.dumps(call(sys.argv[2], sys.argv[3])))
