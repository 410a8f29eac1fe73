"""Tasks whose outputs are cached."""

import pytest
from flyteidl.core.catalog_pb2 import CACHE_HIT, CACHE_POPULATED

pytestmark = pytest.mark.kubernetes


def cache_of(execution, node="n0"):
    """What the cache did for a node."""
    return execution.node_executions[node].closure.task_node_metadata


def test_what_was_computed_is_not_computed_again(launch, finish):
    first = finish(launch("remembering", {"n": 1}))
    for node in ("n0", "n1"):
        assert cache_of(first, node).cache_status == CACHE_POPULATED
    again = finish(launch("remembering", {"n": 1}))
    for node in ("n0", "n1"):
        assert cache_of(again, node).cache_status == CACHE_HIT
        source = cache_of(again, node).catalog_key.source_task_execution
        assert source.node_execution_id.execution_id.name == first.id.name
        assert not again.node_executions[node].task_executions
    assert again.outputs == first.outputs
    other = finish(launch("remembering", {"n": 2}))
    assert other.outputs["o0"] != first.outputs["o0"]


def test_what_is_overwritten_is_what_is_found_from_then_on(launch, finish):
    first = finish(launch("remembering", {"n": 10}))
    overwritten = finish(launch("remembering", {"n": 10}, overwrite_cache=True))
    assert cache_of(overwritten).cache_status == CACHE_POPULATED
    assert overwritten.outputs["o0"] > first.outputs["o0"]
    found = finish(launch("remembering", {"n": 10}))
    assert found.outputs == overwritten.outputs


def test_of_two_at_once_one_waits_for_the_other(launch, finish):
    executions = [launch("in_turn", {"n": 1}) for _ in range(2)]
    ended = [finish(execution) for execution in executions]
    assert ended[0].outputs == ended[1].outputs
    statuses = sorted(cache_of(execution).cache_status for execution in ended)
    assert statuses == sorted([CACHE_HIT, CACHE_POPULATED])
