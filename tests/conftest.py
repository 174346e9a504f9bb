"""Fixtures of every test: a folder of its own, networks and proxies that are gone when it ends, however it ends."""

import contextlib
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from lab import namespace, program
from lab.firewall import binary
from lab.network import Network


def pytest_sessionstart(session):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if os.geteuid() != 0:
        raise pytest.UsageError("these tests make network namespaces: run them as root")
    binary()
    namespace.sweep()
    # A terminated run tears down like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))


def pytest_sessionfinish(session, exitstatus):
    program.stop_all()
    namespace.delete_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: a test that cannot run fails"
    return report


@pytest.fixture(scope="session")
def session_folder():
    """A folder that the sidecar's user can reach too."""
    folder = Path(tempfile.mkdtemp(prefix="ewlab-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(session_folder, request):
    """A test's own folder."""
    made = Path(tempfile.mkdtemp(prefix="t-", dir=session_folder))
    made.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def module_folder(session_folder):
    """A module's own folder."""
    made = Path(tempfile.mkdtemp(prefix="m-", dir=session_folder))
    made.chmod(0o755)
    return made


@pytest.fixture
def ending():
    """What is entered here is left when the test ends, last first."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def module_ending():
    """What is entered here is left when the module ends, last first."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def make_network(ending):
    """Makes a network of a kind, removed when the test ends."""

    def make(kind: str = "routed", *pods: str) -> Network:
        network = Network(kind)
        ending.callback(network.delete)
        for name in pods:
            network.pod(name)
        return network

    return make


