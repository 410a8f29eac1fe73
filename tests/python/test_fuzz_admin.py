"""Random requests to the API's port, over gRPC and over REST. See `fuzz`."""

from fuzz.admin import Admin
from fuzz.rest import Rest


def test_no_call_takes_more_than_its_size_explains_or_ends_the_server(run_lane):
    run_lane(Admin)


def test_no_request_of_rest_takes_more_than_its_size_explains_or_ends_the_server(run_lane):
    run_lane(Rest)
