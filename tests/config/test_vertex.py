"""Base URLs as Google's discovery documents have them."""

import pytest

from vx_token.config import vertex


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_each_location_has_its_host_and_keeps_its_name_in_the_path(location: str, host: str) -> None:
    url = vertex.base_url("my-project", location, "openapi", "v1")
    assert url == f"https://{host}/v1/projects/my-project/locations/{location}/endpoints/openapi"


def test_a_deployed_endpoint_and_the_beta_version_are_parts_of_the_path() -> None:
    url = vertex.base_url("p", "us-east5", "1234567890", "v1beta1")
    assert (
        url == "https://us-east5-aiplatform.googleapis.com/v1beta1/projects/p/locations/us-east5/endpoints/1234567890"
    )
