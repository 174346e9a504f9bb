"""`eastwall redirect delete --netns-folder`: no rule stays in any pod of a node, whoever made it, and what is no namespace holds up nothing."""

import os

import pytest

from lab.firewall import Firewall, binary, call, policy, redirect
from lab.network import Network


@pytest.fixture
def network(ending):
    made = Network("routed")
    ending.callback(made.delete)
    return made


def tables(pod) -> list[str]:
    return pod.run(["nft", "list", "tables"]).stdout.split("\n")[:-1]


def delete(network, folder, **more):
    return network.node.run([binary(), "redirect", "delete", "--mode", "node", "--netns-folder", folder], **more)


def test_no_rule_stays(network, folder):
    pods = [network.pod(name) for name in ("sidecar", "node", "none")]
    redirect(pods[0], "apply", "sidecar")
    firewall = Firewall(folder / "files", "node", network.node, [policy("p", "node", directions=["Ingress"])], [pods[1].workload(ports=[], netns=True), network.node_entry()])
    network.node.run([binary(), "redirect", "apply", "--mode", "node", "--workloads", firewall.workloads_file, "--policy", firewall.policy_folder])
    pods[2].run(["nft", "add table inet theirs"])
    assert [tables(pod) for pod in pods] == [["table inet eastwall"], ["table inet eastwall", "table netdev eastwall"], ["table inet theirs"]]
    assert "15106" in pods[1].run(["ip", "rule"]).stdout

    netns = folder / "netns"
    netns.mkdir()
    for pod in pods:
        os.symlink(pod.path, netns / pod.label)
    (netns / "left-behind").touch()
    os.symlink("/nowhere", netns / "gone")
    for _ in range(2):
        delete(network, netns)
        assert [tables(pod) for pod in pods] == [[], [], ["table inet theirs"]]
        assert "15106" not in pods[1].run(["ip", "rule"]).stdout


@pytest.mark.parametrize(("arguments", "said"), [
    (["apply", "--mode", "node", "--netns-folder", "/run/netns"], "is for `redirect delete --mode node`"),
    (["delete", "--mode", "sidecar", "--netns-folder", "/run/netns"], "is for `redirect delete --mode node`"),
    (["delete", "--mode", "node"], "say which pods"),
    (["apply", "--mode", "node"], "say which pods"),
    (["delete", "--mode", "node", "--netns-folder", "/nowhere"], "/nowhere"),
])
def test_calls_that_mean_nothing(arguments, said):
    done = call("redirect", *arguments, check=False)
    assert done.returncode == 2 and said in done.stderr, done.stderr
