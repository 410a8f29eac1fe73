"""Random requests to the embedded Kubernetes API. See `fuzz`."""

from fuzz.kubernetes import Kubernetes


def test_no_request_takes_more_than_its_size_explains_or_ends_the_server(run_lane):
    run_lane(Kubernetes)
