"""One network namespace: made, entered, swept. Nothing here knows of pods or of the proxy."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

PREFIX = "ewlab"
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
_alive: dict[str, "Namespace"] = {}


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Namespace:
    """A named network namespace of this test run, with its loopback up."""

    def __init__(self, label: str):
        self.name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}-{label}"
        self.path = f"/run/netns/{self.name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        _alive[self.name] = self
        self.ip("link set lo up")

    def ip(self, *lines: str) -> None:
        """Runs lines of iproute2's language inside, all or an error."""
        subprocess.run(["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)

    def command(self, arguments: list[str], uid: int | None = None) -> list[str]:
        """The command line that runs `arguments` inside; with `uid`, as that user and without any capability."""
        lead = ["nsenter", f"--net={self.path}", "--"]
        if uid is not None:
            lead += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"]
        return lead + [str(argument) for argument in arguments]

    def run(self, arguments: list[str], uid: int | None = None, check: bool = True, timeout: float = 60, **more) -> subprocess.CompletedProcess:
        """Runs a program inside to its end."""
        more.setdefault("capture_output", True)
        if not isinstance(more.get("input"), bytes):
            more.setdefault("text", True)
        done = subprocess.run(self.command(arguments, uid), timeout=timeout, **more)
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    @contextlib.contextmanager
    def inside(self):
        """This thread is inside for the length of the block; sockets made there stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
            try:
                yield self
            finally:
                _setns(home)
        finally:
            os.close(there)
            os.close(home)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """A socket of this namespace, usable from any thread."""
        with self.inside():
            return socket.socket(family, kind, protocol)

    def connect(self, address: str, port: int, timeout: float = 10, source: str | None = None) -> socket.socket:
        """A TCP connection dialled from inside."""
        made = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            made.settimeout(timeout)
            if source:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind((source, 0))
            made.connect((address, port))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            made.close()
            raise
        return made

    def listen(self, address: str, port: int, backlog: int = 1024) -> socket.socket:
        """A listening TCP socket inside."""
        made = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(backlog)
        return made

    def delete(self) -> None:
        """Ends what still runs inside and removes the namespace."""
        end_processes_inside(self.name)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        _alive.pop(self.name, None)


class Container(Namespace):
    """A network namespace whose programs have a process namespace of their own too, each the first process of it."""

    def command(self, arguments: list[str], uid: int | None = None) -> list[str]:
        return super().command(["unshare", "--pid", "--fork", "--kill-child", "--", *arguments], uid)

    @staticmethod
    def terminate(program) -> None:
        """Asks what runs there to end: `unshare`, which waits for it, does not pass signals on."""
        child = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        for pid in child:
            os.kill(int(pid), signal.SIGTERM)


class Home:
    """The namespace that the tests themselves run in: for gateways on 127.0.0.x."""

    path = "/proc/self/ns/net"
    name = "home"

    def command(self, arguments: list[str], uid: int | None = None) -> list[str]:
        lead = [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--"]
        return lead + [str(argument) for argument in arguments]

    @contextlib.contextmanager
    def inside(self):
        yield self

    run = Namespace.run
    socket = Namespace.socket
    connect = Namespace.connect
    listen = Namespace.listen


HOME = Home()


def end_processes_inside(name: str) -> None:
    """Ends, by pid, the processes whose network namespace is this one of ours."""
    assert name.startswith(PREFIX), name
    for signum in (signal.SIGTERM, signal.SIGKILL):
        listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout.split()
        pids = [int(pid) for pid in listed if int(pid) != os.getpid()]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        time.sleep(0.1)


def sweep() -> None:
    """Removes what earlier runs left behind: namespaces of our prefix whose run no longer lives."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name = line.split()[0]
        parts = name.split("-")
        if parts[0] == PREFIX and parts[1].isdigit() and not os.path.exists(f"/proc/{parts[1]}"):
            end_processes_inside(name)
            subprocess.run(["ip", "netns", "del", name], check=False)


def delete_all() -> None:
    """The end of a run: nothing of ours stays."""
    for namespace in list(_alive.values()):
        namespace.delete()
