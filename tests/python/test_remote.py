"""FlyteRemote: fetch, execute, sync; inputs and outputs of every kind."""

import datetime
import sys

import pandas
import pytest
from conftest import FLOWS, PROJECT, DOMAIN
from flytekit.types.directory import FlyteDirectory
from flytekit.types.file import FlyteFile
from flytekit.types.structured import StructuredDataset

sys.path.insert(0, str(FLOWS))

from flows import Point, Size  # noqa: E402  a module of the workflows


def test_nodes_are_there_after_sync(remote, launch, finish):
    execution = finish(launch("chain", {"n": 2}))
    assert execution.inputs["n"] == 2
    assert execution.outputs["o0"] == 7
    execution = remote.sync_execution(execution, sync_nodes=True)
    nodes = execution.node_executions
    assert {"start-node", "n0", "n1", "end-node"} <= set(nodes)
    assert nodes["n0"].outputs["o0"] == 4
    assert nodes["n1"].inputs == {"a": 4, "b": 3}
    assert nodes["n0"].task_executions[0].closure.logs[0].uri.startswith("http://localhost:")


@pytest.mark.kubernetes
def test_log_links_open_the_log_as_a_page(backend, launch, finish):
    import urllib.request

    execution = finish(launch("chain"))
    link = execution.node_executions["n0"].task_executions[0].closure.logs[0].uri
    with urllib.request.urlopen(link, timeout=10) as page:
        assert page.status == 200
        page.read()


def test_scalars_come_back_as_they_went(launch, finish):
    when = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=datetime.timezone.utc)
    inputs = {
        "i": -(2**53), "f": 1.5e-300, "s": 'line\n"ü" 🚀', "b": True, "d": when,
        "t": datetime.timedelta(days=2, microseconds=7), "day": datetime.date(2024, 2, 29),
    }
    outputs = finish(launch("all_scalars", inputs, type_hints={"day": datetime.date})).outputs
    assert outputs["o0"] == inputs["i"]
    assert outputs["o1"] == inputs["f"]
    assert outputs["o2"] == inputs["s"]
    assert outputs["o3"] is True
    assert outputs["o4"] == when
    assert outputs["o5"] == inputs["t"]
    assert outputs.get("o6", datetime.date) == inputs["day"]


def test_collections_dataclasses_enums_and_unions_come_back(launch, finish):
    import typing

    inputs = {
        "items": [[1, 2], [], [3]], "table": {"a": 0.5, "b": -1.0}, "point": Point(1, 2.5, ["t"]), "size": Size.LARGE,
        "either": "text",
    }
    hints = {"point": Point, "size": Size, "either": typing.Union[int, str], "items": typing.List[typing.List[int]],
             "table": typing.Dict[str, float]}
    outputs = finish(launch("all_containers", inputs, type_hints=hints)).outputs
    assert outputs.get("o0", typing.List[typing.List[int]]) == inputs["items"]
    assert outputs.get("o1", typing.Dict[str, float]) == inputs["table"]
    assert outputs.get("o2", Point) == Point(1, 2.5, ["t"], "large")
    assert outputs.get("o3", Size) == Size.LARGE
    assert outputs.get("o4", typing.Union[int, str]) == "text"
    assert outputs.get("o5", typing.Optional[int]) is None


def test_files_folders_and_tables_travel_through_the_blob_store(remote, launch, finish, tmp_path):
    (tmp_path / "in.txt").write_text("quiet")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("one", "two words", "drei ü"):
        (folder / name).write_text(name)
    people = pandas.DataFrame({"name": ["Ada", "Grace"], "age": [36, 85]})
    inputs = {
        "file": FlyteFile(str(tmp_path / "in.txt")), "folder": FlyteDirectory(str(folder)),
        "people": StructuredDataset(dataframe=people),
    }
    hints = {"file": FlyteFile, "folder": FlyteDirectory, "people": StructuredDataset}
    outputs = finish(launch("blobs", inputs, type_hints=hints)).outputs
    assert sorted(outputs["o2"]) == ["drei ü", "one", "two words"]
    with remote.remote_context():
        with open(outputs.get("o0", FlyteFile)) as loud:
            assert loud.read() == "QUIET"
        copied = outputs.get("o1", FlyteDirectory).download()
        with open(f"{copied}/deep/two words") as text:
            assert text.read() == "two words"
        older = outputs.get("o3", StructuredDataset).open(pandas.DataFrame).all()
        assert list(older["age"]) == [37, 86]
    target = tmp_path / "out"
    remote.download(outputs, str(target))
    assert sum(1 for path in target.rglob("*") if path.is_file()) >= 5


def test_get_data_finds_inputs_and_outputs_of_nodes(remote, launch, finish):
    name = finish(launch("chain", {"n": 6})).id.name
    base = f"flyte://v1/{PROJECT}/{DOMAIN}/{name}/n0"
    assert remote.get(f"{base}/i").get("n", int) == 6
    assert remote.get(f"{base}/o").get("o0", int) == 12
    assert remote.get(f"{base}/0/o").get("o0", int) == 12


def test_pyflyte_fetch_shows_data(pyflyte, launch, finish):
    name = finish(launch("chain", {"n": 6})).id.name
    assert "12" in pyflyte("fetch", f"flyte://v1/{PROJECT}/{DOMAIN}/{name}/n0/o")


def test_a_deck_can_be_opened_by_its_link(remote, launch, finish):
    import urllib.request

    execution = finish(launch("with_deck", {"n": 4}))
    node = execution.node_executions["n0"]
    assert node.closure.deck_uri.endswith("deck.html")
    deck = remote.get(f"flyte://v1/{PROJECT}/{DOMAIN}/{execution.id.name}/n0/d")
    text = deck if isinstance(deck, str) else getattr(deck, "data", deck)
    text = text.decode() if isinstance(text, bytes) else str(text)
    if "the number is 4" not in text:
        link = remote.client.get_download_artifact_signed_url(
            "n0", PROJECT, DOMAIN, execution.id.name, artifact_type=1
        ).signed_url[0]
        with urllib.request.urlopen(link, timeout=10) as page:
            text = page.read().decode()
    assert "the number is 4" in text


def test_a_shell_task_reads_inputs_and_writes_a_file(remote, launch, finish):
    outputs = finish(launch("shell", {"name": "Flyte"})).outputs
    with remote.remote_context(), open(outputs.get("o0", FlyteFile)) as greeting:
        assert greeting.read() == "hello Flyte"
