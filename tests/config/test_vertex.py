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


PLACE = "v1/projects/p/locations"


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        (f"https://aiplatform.googleapis.com/{PLACE}/global/endpoints/openapi", ""),
        (f"https://us-central1-aiplatform.googleapis.com/{PLACE}/us-central1/endpoints/openapi", ""),
        (f"https://1.us-central1-42.prediction.vertexai.goog/{PLACE}/us-central1/endpoints/1/invoke/v1", ""),
        (f"https://aiplatform.us.rep.googleapis.com/{PLACE}/us/endpoints/openapi/", ""),
        (f"https://aiplatform.other.example/{PLACE}/global/endpoints/openapi", ""),
        (f"https://aiplatform-mine.p.googleapis.com/{PLACE}/us-central1/endpoints/openapi", ""),
        (f"https://us-central1-aiplatform-mine.p.googleapis.com/{PLACE}/us-central1/endpoints/1", ""),
        (f"https://us-central1-aiplatform.mtls.googleapis.com/{PLACE}/us-central1/endpoints/openapi", ""),
        (f"https://10.0.0.5/{PLACE}/us-central1/endpoints/1", ""),
        (f"https://aiplatform.googleapis.com/{PLACE}/us-central1/endpoints/openapi", "does not serve"),
        (f"https://aiplatform.eu.rep.googleapis.com/{PLACE}/us/endpoints/openapi", "does not serve"),
        (f"https://1.us-central1-42.prediction.vertexai.goog/{PLACE}/us-central1/endpoints/openapi", "of one endpoint"),
        ("http://127.0.0.1:1/v1", ""),
        (f"https://eu-aiplatform.googleapis.com/{PLACE}/eu/endpoints/openapi", "the host eu-aiplatform"),
        (f"https://global-aiplatform.googleapis.com/{PLACE}/global/endpoints/openapi", "the host global-"),
        (f"https://us-central1-aiplatform.googleapis.com/{PLACE}/europe-west4/endpoints/openapi", "does not serve"),
        ("https://aiplatform.googleapis.com/v1", "is not a URL of Vertex AI"),
        (f"https://aiplatform.googleapis.com/{PLACE}/global/endpoints/openapi/v1", "is not a URL of Vertex AI"),
        (f"https://us-x1-aiplatform.googleapis.com/{PLACE}/us-x1/endpoints/1/predict", "is not a URL of Vertex AI"),
        (f"https://aiplatform.googleapis.com/{PLACE}/global/openapi", "is not a URL of Vertex AI"),
        (f"https://aiplatform.googleapis.com/api/{PLACE}/global/endpoints/openapi", "is not a URL of Vertex AI"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "this is the Gemini API"),
        ("https://example.com/v1/chat/completions", "ends with a path that tools append"),
    ],
)
def test_a_url_that_cannot_work_is_explained(url: str, wrong: str) -> None:
    problem, hint = vertex.problem(url)
    assert wrong in problem
    assert bool(problem) == bool(wrong) == bool(hint)


@pytest.mark.parametrize(
    ("location", "endpoint", "hint"),
    [
        ("us-central1", "1", ""),
        ("eu", "openapi", ""),
        ("global", "openapi", ""),
        ("us-centrall1", "openapi", "did you mean us-central1?"),
        ("europe-west-4", "openapi", "did you mean europe-west4?"),
        ("global", "1", "find its region: vx-token endpoints --all-locations; then run: vx-token endpoints use 1"),
        ("zzz", "openapi", "use global, us, eu, or a region such as us-central1"),
    ],
)
def test_an_unusual_location_is_a_warning_with_what_is_usual(location: str, endpoint: str, hint: str) -> None:
    warning, usual = vertex.warning(vertex.base_url("p", location, endpoint, "v1"))
    assert usual == hint
    assert bool(warning) == bool(hint)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "10.0.0.1"])
def test_only_locations_of_googles_own_universe_are_known(host: str) -> None:
    assert vertex.warning(f"https://{host}/{PLACE}/mars/endpoints/openapi") == ("", "")


@pytest.mark.parametrize(
    ("host", "root"),
    [
        ("aiplatform.googleapis.com", "https://europe-west4-aiplatform.googleapis.com"),
        ("us-east5-aiplatform.googleapis.com", "https://europe-west4-aiplatform.googleapis.com"),
        ("aiplatform.eu.rep.googleapis.com", "https://europe-west4-aiplatform.googleapis.com"),
        ("1.us-central1-42.prediction.vertexai.goog", "https://europe-west4-aiplatform.googleapis.com"),
        ("us-x1-aiplatform.other.example", "https://europe-west4-aiplatform.other.example"),
        ("127.0.0.1:8080", "https://127.0.0.1:8080"),
        ("10.0.0.1", "https://10.0.0.1"),
    ],
)
def test_the_api_of_another_location_is_in_the_same_universe(host: str, root: str) -> None:
    place = vertex.Place.parse(f"https://{host}/{PLACE}/us/endpoints/openapi")
    assert place is not None
    assert place.root_of("europe-west4") == root


@pytest.mark.parametrize(
    ("route", "own"), [("1", True), ("1/invoke/v1", True), ("openapi", False), ("1/predict", False)]
)
def test_an_endpoint_of_ones_own_is_recognised_with_its_containers_routes(route: str, own: bool) -> None:
    assert vertex.is_own_endpoint(f"https://host.example/{PLACE}/us-x1/endpoints/{route}") == own


@pytest.mark.parametrize(
    ("host", "location", "usual"),
    [
        ("aiplatform.apis.example", "global", ""),
        ("u-x1-aiplatform.apis.example", "u-x1", ""),
        ("aiplatform.eu.rep.apis.example", "eu", ""),
        ("eu-aiplatform.apis.example", "eu", "aiplatform.eu.rep.apis.example"),
        ("aiplatform.apis.example", "u-x1", "u-x1-aiplatform.apis.example"),
    ],
)
def test_hosts_of_another_universe_have_the_same_form(host: str, location: str, usual: str) -> None:
    url = f"https://{host}/{PLACE}/{location}/endpoints/openapi"
    assert vertex.problem(url) == ("", "")
    _, hint = vertex.warning(url)
    assert hint == (f"if it is Google's, use the host {usual}" if usual else "")


def test_a_login_of_another_universe_is_told_its_base_url() -> None:
    url = vertex.base_url("p", "u-x1", "openapi", "v1")
    right = f"https://u-x1-aiplatform.apis.example/{PLACE}/u-x1/endpoints/openapi"
    problem, hint = vertex.universe_problem(url, "apis.example")
    assert problem == "the login is of the universe apis.example, and the URL of googleapis.com"
    assert hint == f'set base_url = "{right}"'
    assert vertex.universe_problem(right, "apis.example") == ("", "")
    assert vertex.universe_problem(f"http://127.0.0.1:1/{PLACE}/u-x1/endpoints/openapi", "apis.example") == ("", "")


@pytest.mark.parametrize(
    ("location", "told"), [("us-central1", False), ("global", False), ("europe-west4", True), ("eu", True)]
)
def test_a_location_beside_a_base_url_in_another_one_is_told(location: str, told: bool) -> None:
    warning, hint = vertex.overruled(vertex.base_url("p", "us-central1", "1", "v1"), location)
    assert bool(warning) == bool(hint) == told
    assert vertex.overruled("", location) == vertex.overruled("http://127.0.0.1:1/v1", location) == ("", "")
