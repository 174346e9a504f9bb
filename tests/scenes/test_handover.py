"""An upgrade: the next process takes over the listeners of the one before, under load, and nobody is refused."""

import signal
import threading

import pytest

from lab.firewall import Firewall, policy
from lab.namespace import Container
from lab.program import until
from lab.recorder import Recorder
from lab.scene import Scene
from lab.stage import HOST, Stage, shape_policy
from lab.wire import Http1, Http2

ASK = f"GET /open/x HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
GET2 = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/open/slow"), (b":authority", HOST.encode())]


def handover(folder) -> list:
    return ["--handover", folder / "handover.sock"]


class Load:
    """New connections without a pause, each with one request."""

    def __init__(self, ask):
        self.ask, self.statuses, self.over = ask, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set() and len(self.statuses) < 20_000:
            try:
                answer = self.ask()
                self.statuses.append(answer and answer.status)
            except OSError as error:
                self.statuses.append(repr(error))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(30)


def successor(firewall: Firewall) -> tuple:
    """Starts the next process with the same command; the one before is returned with it."""
    before = firewall.program
    firewall.launch()
    return before, firewall.program


def test_nobody_is_refused_and_what_is_in_flight_ends_with_its_answer(folder, ending):
    held = threading.Event()

    def answer(request):
        if request.path == "/open/slow":
            held.wait(20)
        return 200, [], b"served"

    stage = Stage(folder, ending, shape_policy("A"), answer=answer, arguments=handover(folder))

    def ask():
        with stage.http1() as client:
            client.send(ASK)
            return client.response()

    slow, idle = Http2(stage.connect()), stage.http1()
    ending.callback(slow.close)
    stream = slow.request(GET2)
    idle.send(ASK)
    assert idle.response().status == 200
    until(lambda: any(raw.startswith(b"PRI") for raw in stage.recorder.raw), "the slow request at the receiver")
    with Load(ask) as load:
        until(lambda: len(load.statuses) > 20, "load")
        before, after = successor(stage.firewall)
        until(lambda: slow.pump(0.1) or slow.goaway is not None, "GOAWAY from the one before")
        seen = len(load.statuses)
        until(lambda: len(load.statuses) > seen + 50, "load at the next one")
        held.set()
        assert slow.wait(stream).status == 200, "a request in flight"
        assert before.wait(20) == 0
        seen = len(load.statuses)
        until(lambda: len(load.statuses) > seen + 50, "load after the end of the one before")
    assert set(load.statuses) == {200}, [each for each in load.statuses if each != 200][:5]
    assert after.alive() and stage.firewall.ask("/readyz")[0] == 200
    assert stage.firewall.ask_socket("/policy")[0] == 200, "the socket is the next one's"
    # And once more, from the one that took over.
    last, _ = successor(stage.firewall)
    assert last.wait(20) == 0
    assert ask().status == 200


def test_a_successor_that_cannot_judge_takes_nothing_over(folder, ending):
    stage = Stage(folder, ending, shape_policy("A"), arguments=handover(folder))
    (stage.firewall.policy_folder / "policy.yaml").rename(folder / "kept.yaml")
    stage.firewall.write_policy_text("not: [a, policy\n", "broken.yaml")
    before, after = successor(stage.firewall)
    until(lambda: "serves until this one can judge" in after.text(), "the next process")
    with stage.http1() as client:
        client.send(ASK)
        assert client.response().status == 200, "the one before, with its last good table"
    assert before.alive()
    after.signal(signal.SIGTERM)
    after.wait(10)
    with stage.http1() as client:
        client.send(ASK)
        assert client.response().status == 200
    stage.firewall.program = before


def on_node(folder, ending) -> tuple:
    """Two pods on a node, and what asks from one to the other."""
    rules = [policy("orders", "orders", [{"name": "web", "from": [{"serviceAccount": "web"}], "http": [{"paths": ["/open/**"]}]}])]
    scene = Scene(folder, ending, "node", rules, {"web": [], "orders": [{"name": "http", "port": 8080}]}, arguments=handover(folder))
    ending.enter_context(Recorder(scene["orders"], scene["orders"].ipv4, 8080))

    def ask():
        with Http1(scene["web"].connect(scene["orders"].ipv4, 8080)) as client:
            client.send(ASK)
            return client.response()

    assert ask().status == 200
    return scene, rules, ask


def test_a_proxy_of_a_node_hands_over_the_listeners_of_its_pods(folder, ending):
    scene, _, ask = on_node(folder, ending)
    with Load(ask) as load:
        until(lambda: len(load.statuses) > 20, "load")
        before, after = successor(scene.firewall())
        assert before.wait(20) == 0
        seen = len(load.statuses)
        until(lambda: len(load.statuses) > seen + 50, "load after the end of the one before")
    assert set(load.statuses) == {200}, [each for each in load.statuses if each != 200][:5]
    assert after.alive()


def test_the_next_pod_of_a_daemon_set_takes_over_and_the_one_before_waits_for_its_end(folder, ending):
    """The next ones have their own network and their own processes, as in a container."""
    scene, rules, ask = on_node(folder, ending)

    def next_pod(name: str) -> Firewall:
        place = Container(name)
        ending.callback(place.delete)
        pod = Firewall(folder / name, "node", place, rules, scene.workloads() + [scene.network.node_entry()], arguments=handover(folder))
        ending.callback(lambda: pod.program and pod.program.alive() and Container.terminate(pod.program))
        return pod.start()

    before, end = scene.firewall(), lambda program: program.signal(signal.SIGTERM)
    with Load(ask) as load:
        for name in ("second", "third"):
            seen = len(load.statuses)
            until(lambda: len(load.statuses) > seen + 20, "load")
            after = next_pod(name)
            until(lambda: "waits to be ended" in before.program.text(), "the end of the drain")
            seen = len(load.statuses)
            until(lambda: len(load.statuses) > seen + 20, "load after it")
            assert before.ask("/healthz")[0] == 200 and before.ask("/readyz")[0] == 503
            assert after.ask_socket("/policy")[0] == 200, "from a process that the proxy cannot see"
            assert before.program.alive(), "or its supervisor would start it again, and it would take over"
            end(before.program)
            assert before.program.wait(10) == 0
            before, end = after, Container.terminate
    assert set(load.statuses) == {200}, [each for each in load.statuses if each != 200][:5]


@pytest.mark.parametrize("kind", ["nothing", "a dead socket"])
def test_without_a_predecessor_it_starts_as_ever(folder, ending, kind):
    if kind == "a dead socket":
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(str(folder / "handover.sock"))
    stage = Stage(folder, ending, shape_policy("A"), arguments=handover(folder))
    with stage.http1() as client:
        client.send(ASK)
        assert client.response().status == 200
