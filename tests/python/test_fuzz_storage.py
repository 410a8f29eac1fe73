"""Random requests to the embedded S3 endpoint. See `fuzz`."""

from fuzz.storage import Storage


def test_no_request_takes_more_than_its_size_explains_or_ends_the_server(run_lane):
    run_lane(Storage)
