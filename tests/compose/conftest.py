"""What the tests of the log export share."""

import pytest

from tests.support.pod_logs import kubernetes_api


@pytest.fixture
def cluster():
    """A Kubernetes API with the output of two pods."""
    with kubernetes_api() as server:
        yield server
