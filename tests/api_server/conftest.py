"""One API server a module, with the definitions and roles in it, and a namespace for every document that is put to it; one cluster with everything for all that need it."""

import pytest
from kinds import METADATA, ROOT, SCHEMAS, accepted, broken, documents
from lab.api_server import ApiServer
from lab.cluster import Cluster


@pytest.fixture(scope="module")
def api(module_folder, module_ending):
    made = ApiServer(module_folder)
    module_ending.callback(made.stop)
    made.install(*[ROOT / "deploy" / folder for folder in ("crds", "roles")])
    every = accepted() + [documents(path)[0] for path in broken() if path.stem not in METADATA and documents(path)[0].get("kind") in SCHEMAS]
    for namespace in {each["metadata"].get("namespace", "default") for each in every} - {"default"}:
        done = made.kubectl("create", "namespace", namespace)
        assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def cluster(session_folder):
    folder = session_folder / "cluster"
    folder.mkdir()
    folder.chmod(0o755)
    made = Cluster(folder)
    yield made
    made.close()
