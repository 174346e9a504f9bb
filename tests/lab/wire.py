"""Raw HTTP/1 and HTTP/2 bytes: strict readers and literal writers. No client library stands between a test and the wire."""

import re
import socket
from dataclasses import dataclass, field

import hpack
from hyperframe.frame import (ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame,
                              WindowUpdateFrame)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_TOKEN = re.compile(rb"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")


class Malformed(ValueError):
    """Bytes that no strict HTTP/1 peer accepts."""


@dataclass
class Message:
    """One HTTP message, as it came."""

    start: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    raw: bytes = b""

    @property
    def method(self) -> str:
        return self.start.split(b" ")[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.start.split(b" ")[1].decode("latin-1")

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    def values(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def value(self, name: str) -> str | None:
        found = self.values(name)
        return found[0].decode("latin-1") if found else None


def _head(data: bytes) -> tuple[Message, int] | None:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if re.search(rb"(?<!\r)\n", data):
            raise Malformed("bare LF")
        return None
    head = data[:end]
    if b"\0" in head or re.search(rb"\r(?!\n)", head) or re.search(rb"(?<!\r)\n", head):
        raise Malformed("control byte in head")
    lines = head.split(b"\r\n")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.match(name):
            raise Malformed(f"field line {line!r}")
        headers.append((name, value.strip(b" \t")))
    return Message(lines[0], headers), end + 4


def _chunked(data: bytes, at: int) -> tuple[bytes, list[tuple[bytes, bytes]], int] | None:
    body = b""
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        if not re.match(rb"^[0-9A-Fa-f]{1,16}$", data[at:line].split(b";")[0].rstrip(b" \t")):
            raise Malformed("chunk size")
        size = int(data[at:line].split(b";")[0], 16)
        at = line + 2
        if size == 0:
            trailers = []
            while True:
                line = data.find(b"\r\n", at)
                if line < 0:
                    return None
                if line == at:
                    return body, trailers, at + 2
                name, _, value = data[at:line].partition(b":")
                trailers.append((name, value.strip(b" \t")))
                at = line + 2
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise Malformed("chunk end")
        body += data[at : at + size]
        at += size + 2


def read_message(data: bytes, no_body: bool = False, until_close: bool = False) -> tuple[Message, bytes] | None:
    """The first whole message of `data` and what follows it; `None` where more bytes are needed."""
    found = _head(data)
    if found is None:
        return None
    message, at = found
    lengths, codings = message.values("content-length"), message.values("transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Malformed("two framings")
    if no_body:
        end = at
    elif codings:
        if codings[0].lower() != b"chunked":
            raise Malformed("transfer coding")
        body = _chunked(data, at)
        if body is None:
            return None
        message.body, message.trailers, end = body
    elif lengths:
        if not re.match(rb"^\d+$", lengths[0]):
            raise Malformed("content-length")
        end = at + int(lengths[0])
        if len(data) < end:
            return None
        message.body = data[at:end]
    elif until_close:
        message.body, end = data[at:], len(data)
    else:
        end = at
    message.raw = data[:end]
    return message, data[end:]


class Http1:
    """One HTTP/1 client connection, written literally."""

    def __init__(self, connection: socket.socket):
        self.socket = connection
        self.buffer = b""
        self.closed = False

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            self.closed = True

    def _more(self) -> bool:
        try:
            part = self.socket.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            self.closed = True
            return False
        self.buffer += part
        return True

    def response(self, head: bool = False, timeout: float = 10) -> Message | None:
        """The next final or interim answer; `None` where the connection ended without one."""
        self.socket.settimeout(timeout)
        while True:
            if self.buffer:
                start = self.buffer.split(b"\r\n", 1)[0]
                status = int(start.split(b" ")[1]) if start.count(b" ") >= 1 and start.split(b" ")[1].isdigit() else 0
                bare = head or status in (204, 304) or 100 <= status < 200
                found = read_message(self.buffer, no_body=bare)
                if found:
                    self.buffer = found[1]
                    return found[0]
            if not self._more():
                return None

    def ended(self, timeout: float = 5) -> bool:
        """Whether the peer closes without another byte."""
        self.socket.settimeout(timeout)
        try:
            while not self.buffer and not self.closed:
                self._more()
        except TimeoutError:
            return False
        return self.closed and not self.buffer

    def close(self) -> None:
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@dataclass
class Answer2:
    """What one HTTP/2 stream got."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        for name, value in self.headers:
            if name == b":status":
                return int(value)
        return None

    def value(self, name: str) -> str | None:
        for key, value in self.headers + self.trailers:
            if key == name.encode():
                return value.decode("latin-1")
        return None


class Http2:
    """One HTTP/2 client connection with prior knowledge, frame by frame: nothing is validated on the way out."""

    def __init__(self, connection: socket.socket, settings: dict | None = None, auto: bool = True):
        self.socket = connection
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.streams: dict[int, Answer2] = {}
        self.goaway: int | None = None
        self.closed = False
        self.auto = auto
        self.peer_settings: dict[int, int] = {}
        # Of the connection, as the peer has granted it so far.
        self.granted = 65_535
        self.pongs: list[bytes] = []
        self.next_stream = 1
        self._buffer = b""
        self._fragment = b""
        self.send(PREFACE)
        self.frame(SettingsFrame(0, settings=settings or {}))

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            self.closed = True

    def frame(self, frame: Frame) -> None:
        self.send(frame.serialize())

    def request(self, headers: list, body: bytes | None = None, end: bool = True, trailers: list | None = None) -> int:
        """Sends header fields exactly as given, then the body; returns the stream."""
        stream = self.next_stream
        self.next_stream += 2
        self.streams[stream] = Answer2()
        block = self.encoder.encode(headers, huffman=False)
        only_head = end and body is None and trailers is None
        pieces = [block[at : at + 16000] for at in range(0, len(block), 16000)] or [b""]
        first = HeadersFrame(stream, pieces[0])
        if only_head:
            first.flags.add("END_STREAM")
        if len(pieces) == 1:
            first.flags.add("END_HEADERS")
        self.frame(first)
        for index, piece in enumerate(pieces[1:], start=2):
            more = ContinuationFrame(stream, piece)
            if index == len(pieces):
                more.flags.add("END_HEADERS")
            self.frame(more)
        if body is not None:
            self.data(stream, body, end and trailers is None)
        if trailers is not None:
            self.trailers(stream, trailers)
        return stream

    def data(self, stream: int, body: bytes, end: bool) -> None:
        frame = DataFrame(stream, body)
        if end:
            frame.flags.add("END_STREAM")
        self.frame(frame)

    def trailers(self, stream: int, fields: list, end: bool = True) -> None:
        frame = HeadersFrame(stream, self.encoder.encode(fields, huffman=False))
        frame.flags.add("END_HEADERS")
        if end:
            frame.flags.add("END_STREAM")
        self.frame(frame)

    def reset(self, stream: int, code: int = 8) -> None:
        self.frame(RstStreamFrame(stream, error_code=code))

    def pump(self, timeout: float) -> bool:
        """Reads once and takes in the frames; false where nothing came or the connection ended."""
        self.socket.settimeout(timeout)
        try:
            part = self.socket.recv(65536)
        except TimeoutError:
            return False
        except ConnectionResetError:
            part = b""
        if not part:
            self.closed = True
            return False
        self._buffer += part
        while len(self._buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._buffer[:9]))
            if len(self._buffer) < 9 + length:
                break
            frame.parse_body(memoryview(self._buffer[9 : 9 + length]))
            self._buffer = self._buffer[9 + length :]
            self._take(frame, length)
        return True

    def _take(self, frame: Frame, length: int) -> None:
        if isinstance(frame, SettingsFrame):
            if "ACK" not in frame.flags:
                self.peer_settings.update(frame.settings)
                ack = SettingsFrame(0)
                ack.flags.add("ACK")
                self.frame(ack)
        elif isinstance(frame, WindowUpdateFrame):
            if frame.stream_id == 0:
                self.granted += frame.window_increment
        elif isinstance(frame, PingFrame):
            if "ACK" in frame.flags:
                self.pongs.append(frame.opaque_data)
            else:
                answer = PingFrame(0, frame.opaque_data)
                answer.flags.add("ACK")
                self.frame(answer)
        elif isinstance(frame, GoAwayFrame):
            self.goaway = frame.error_code
        elif isinstance(frame, RstStreamFrame):
            answer = self.streams.setdefault(frame.stream_id, Answer2())
            answer.reset, answer.ended = frame.error_code, True
        elif isinstance(frame, (HeadersFrame, ContinuationFrame)):
            self._fragment += frame.data
            answer = self.streams.setdefault(frame.stream_id, Answer2())
            if "END_STREAM" in frame.flags:
                answer.ended = True
            if "END_HEADERS" in frame.flags:
                fields = [(bytes(k), bytes(v)) for k, v in self.decoder.decode(self._fragment, raw=True)]
                self._fragment = b""
                if answer.status is None or answer.status < 200:
                    answer.headers = fields
                else:
                    answer.trailers = fields
        elif isinstance(frame, DataFrame):
            answer = self.streams.setdefault(frame.stream_id, Answer2())
            answer.body += frame.data
            if "END_STREAM" in frame.flags:
                answer.ended = True
            if self.auto and length:
                self.frame(WindowUpdateFrame(0, window_increment=length))
                if not answer.ended:
                    self.frame(WindowUpdateFrame(frame.stream_id, window_increment=length))

    def wait(self, stream: int, timeout: float = 10, until=lambda answer: answer.ended) -> Answer2:
        """Reads until the stream ended (or `until`), the connection ended, or the time is over."""
        import time

        end = time.monotonic() + timeout
        while not until(self.streams[stream]) and not self.closed and (left := end - time.monotonic()) > 0:
            self.pump(left)
        return self.streams[stream]

    def close(self) -> None:
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
