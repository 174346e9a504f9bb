"""A program that a test started: its output kept, its end by pid."""

import os
import signal
import subprocess
import time
from pathlib import Path

_running: list["Program"] = []


class Program:
    """Started at once; `stop` asks first and then insists."""

    def __init__(self, place, arguments: list, folder: Path, label: str, uid: int | None = None, environment: dict | None = None):
        self.label = label
        self.output = Path(folder) / f"{label}-{time.monotonic_ns()}.log"
        with open(self.output, "wb") as file:
            self.process = subprocess.Popen(place.command(arguments, uid), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                            start_new_session=True, env={**os.environ, **(environment or {})})
        _running.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        """Everything it printed."""
        return self.output.read_text(errors="replace")

    def memory(self) -> int:
        """Bytes that are resident."""
        return int(Path(f"/proc/{self.pid}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 30) -> int:
        return self.process.wait(timeout)

    def stop(self, timeout: float = 5) -> int:
        """Ends it, with all that it started in its own session; returns its exit code."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        if self in _running:
            _running.remove(self)
        return self.process.returncode


def stop_all() -> None:
    """The end of a run."""
    for program in list(_running):
        program.stop(1)


def until(condition, what: str, timeout: float = 20, pause: float = 0.02):
    """Waits for a true value and returns it; says what never came."""
    end = time.monotonic() + timeout
    while True:
        try:
            value = condition()
        except (OSError, AssertionError, ValueError, KeyError) as error:
            value, last = None, error
        else:
            last = value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout} s; last seen: {last!r}")
        time.sleep(pause)
