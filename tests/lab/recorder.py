"""A receiver that keeps every byte it got, and answers HTTP/1 and HTTP/2 requests that it can frame strictly."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from .program import until
from .wire import PREFACE, Malformed, read_message


@dataclass
class Received:
    """One request, as the receiver understood it."""

    version: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    source: str
    trailers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def host(self) -> str | None:
        return self.header("host") if self.version == "1" else self.header(":authority") or self.header("host")

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class Connection:
    """One accepted connection: from where, and its bytes."""

    source: tuple
    raw: bytes = b""
    ended: bool = False
    error: str | None = None
    version: str = "1"
    socket: socket.socket | None = None

    @property
    def address(self) -> str:
        return self.source[0].removeprefix("::ffff:")


class Recorder:
    """Listens at once. `answer` makes the HTTP/1 answer of a request; `greeting` is said first, by a server that speaks first."""

    def __init__(self, place, address: str, port: int, answer=None, greeting: bytes = b"", http: bool = True, echo: bool = False):
        self.address, self.port = address, port
        self.connections: list[Connection] = []
        self.requests: list[Received] = []
        self.answer = answer or (lambda request: (200, [], b"served"))
        self.greeting, self.http, self.echo = greeting, http, echo
        self._lock = threading.Lock()
        self._listener = place.listen(address, port)
        self._open = True
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    # === what a test asks ===

    @property
    def bytes_received(self) -> int:
        with self._lock:
            return sum(len(connection.raw) for connection in self.connections)

    @property
    def arrived(self) -> int:
        """How much of what clients sent has arrived. HTTP/2 connections upstream have frames of their own (SETTINGS, PING): there, requests count."""
        with self._lock:
            return sum(len(each.raw) for each in self.connections if each.version == "1") + sum(1 for each in self.requests if each.version == "2")

    @property
    def raw(self) -> list[bytes]:
        with self._lock:
            return [connection.raw for connection in self.connections if connection.raw]

    def forget(self) -> None:
        """Starts a new page: what came before is dropped."""
        with self._lock:
            self.connections = [connection for connection in self.connections if not connection.ended]
            for connection in self.connections:
                connection.raw = b""
            self.requests = []

    def wait_requests(self, count: int, timeout: float = 10) -> list[Received]:
        until(lambda: len(self.requests) >= count, f"{count} requests at the receiver", timeout)
        return list(self.requests)

    def close(self) -> None:
        self._open = False
        for wake in (self._listener,):
            try:
                wake.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            wake.close()
        for connection in list(self.connections):
            if connection.socket is not None:
                try:
                    connection.socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self._thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # === the server ===

    def _accept(self) -> None:
        while self._open:
            try:
                accepted, source = self._listener.accept()
            except OSError:
                return
            connection = Connection(source, socket=accepted)
            with self._lock:
                self.connections.append(connection)
            threading.Thread(target=self._serve, args=(accepted, connection), daemon=True).start()

    def _serve(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.greeting:
                accepted.sendall(self.greeting)
            self._converse(accepted, connection)
        except Malformed as error:
            connection.error = str(error)
        except OSError:
            pass
        finally:
            connection.ended = True
            connection.socket = None
            accepted.close()

    def _converse(self, accepted: socket.socket, connection: Connection) -> None:
        buffer, second = b"", None
        while True:
            part = accepted.recv(262144)
            if not part:
                return
            with self._lock:
                connection.raw += part
            if self.echo:
                accepted.sendall(part)
            if not self.http:
                continue
            if second is not None:
                second.take(part)
                continue
            buffer += part
            if buffer.startswith(PREFACE):
                connection.version = "2"
                second = _Http2Side(self, accepted, connection)
                second.take(buffer)
                continue
            if PREFACE.startswith(buffer):
                continue
            buffer = self._http1(accepted, connection, buffer)

    def _http1(self, accepted: socket.socket, connection: Connection, buffer: bytes) -> bytes:
        while buffer:
            found = read_message(buffer)
            if found is None:
                return buffer
            message, buffer = found
            pairs = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in message.headers]
            request = Received("1", message.method, message.target, pairs, message.body, connection.address,
                               [(key.decode("latin-1"), value.decode("latin-1")) for key, value in message.trailers])
            with self._lock:
                self.requests.append(request)
            status, headers, body = self.answer(request)
            lines = [f"HTTP/1.1 {status} Said"] + [f"{key}: {value}" for key, value in headers]
            if status >= 200 and not any(key.lower() in ("content-length", "transfer-encoding") for key, _ in headers):
                lines.append(f"content-length: {len(body)}")
            head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
            accepted.sendall(head + (b"" if request.method == "HEAD" else body))
        return buffer


class _Http2Side:
    """The HTTP/2 half of the receiver: takes what comes without judging it."""

    def __init__(self, recorder: Recorder, accepted: socket.socket, connection: Connection):
        self.recorder, self.socket, self.connection = recorder, accepted, connection
        self.open: dict[int, Received] = {}
        self.waiting: dict[int, bytes] = {}
        configuration = h2.config.H2Configuration(client_side=False, header_encoding="latin-1", validate_inbound_headers=False,
                                                  normalize_inbound_headers=False)
        self.h2 = h2.connection.H2Connection(configuration)
        self.h2.local_settings[h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE] = 1 << 20
        self.h2.initiate_connection()
        accepted.sendall(self.h2.data_to_send())

    def take(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise Malformed(str(error)) from error
        for event in events:
            if isinstance(event, h2.events.RequestReceived):
                fields = [(str(key), str(value)) for key, value in event.headers]
                known = dict(fields)
                self.open[event.stream_id] = Received("2", known.get(":method", ""), known.get(":path", ""), fields, b"", self.connection.address)
            elif isinstance(event, h2.events.DataReceived):
                if event.stream_id in self.open:
                    self.open[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                if event.stream_id in self.open:
                    self.open[event.stream_id].trailers = [(str(key), str(value)) for key, value in event.headers]
            elif isinstance(event, h2.events.StreamReset):
                self.open.pop(event.stream_id, None)
                self.waiting.pop(event.stream_id, None)
            elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
                self._flush()
            elif isinstance(event, h2.events.StreamEnded):
                self._answer(event.stream_id)
        self.socket.sendall(self.h2.data_to_send())

    def _answer(self, stream: int) -> None:
        request = self.open.pop(stream, None)
        if request is None:
            return
        with self.recorder._lock:
            self.recorder.requests.append(request)
        status, headers, body = self.recorder.answer(request)
        try:
            self.h2.send_headers(stream, [(":status", str(status))] + [(key.lower(), value) for key, value in headers], end_stream=not body)
        except h2.exceptions.ProtocolError:
            return  # reset meanwhile
        if body:
            self.waiting[stream] = body
            self._flush()

    def _flush(self) -> None:
        """Sends of the waiting bodies what the windows let through."""
        for stream, body in list(self.waiting.items()):
            try:
                while body:
                    size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
                    if size <= 0:
                        break
                    self.h2.send_data(stream, body[:size], end_stream=size == len(body))
                    body = body[size:]
            except h2.exceptions.ProtocolError:
                body = b""
            if body:
                self.waiting[stream] = body
            else:
                del self.waiting[stream]
