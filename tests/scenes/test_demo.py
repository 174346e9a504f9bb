"""The demonstration runs to its end and leaves nothing behind."""

import os
import subprocess

import pytest

from lab.firewall import binary
from lab.program import Program, until
from lab.namespace import HOME, PREFIX


def namespaces() -> set[str]:
    """The names of all network namespaces but those of test runs, this one's and others'."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listed.splitlines() if not line.startswith(PREFIX)}


@pytest.mark.parametrize("arguments", [[], ["--loopback"]])
def test_the_demonstration_ends_well_and_cleans_up(folder, ending, arguments):
    kept = folder / "temporary"
    kept.mkdir()
    before = namespaces()
    program = Program(HOME, [binary(), "demo", *arguments], folder, "demo", environment={"TMPDIR": str(kept)})
    ending.callback(program.stop)
    assert program.wait(90) == 0, program.text()
    assert "403" in program.text(), program.text()
    assert namespaces() == before
    assert list(kept.iterdir()) == []

    def nobody():
        try:
            os.killpg(program.pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(nobody, "the end of every process that it started", 5)
