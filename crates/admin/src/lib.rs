//! flyteadmin: the API services, repository and REST gateway.
