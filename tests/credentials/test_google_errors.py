"""What a failed refresh means: whose turn it is, and the exact command that helps."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vx_token.credentials import google_errors
from vx_token.credentials.google_errors import Answer, Login
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError

NOW = 1_800_000_000.0
USER = Login("authorized_user", "/home/me/adc.json")
ROBOT = Login("service_account", "/keys/my key.json", "bot@p.iam.gserviceaccount.com")
SECRET = "ya29.a0-live-token"


def answer(status: int, body: object = "", host: str = "oauth2.googleapis.com", path: str = "/token") -> Answer:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return google_errors.read(host, path, status, {}, content, NOW)


def judged(status: int, body: object = "", login: Login = USER, path: str = "/token") -> VxTokenError:
    return google_errors.judge(answer(status, body, path=path), login)


@pytest.mark.parametrize(
    "code",
    [
        "invalid_grant", "invalid_client", "deleted_client", "disabled_client", "unauthorized_client", "invalid_scope",
        "access_denied", "account_disabled", "admin_policy_enforced", "org_internal",
    ],
)  # fmt: skip
def test_what_oauth_calls_final_needs_a_human(code: str) -> None:
    error = judged(400, {"error": code, "error_description": f"Bad {SECRET}"})
    assert isinstance(error, LoginNeededError)
    assert code in error.message
    assert error.hint == "run: gcloud auth application-default login"


@pytest.mark.parametrize(
    "body",
    [
        {"error": "invalid_grant", "error_subtype": "invalid_rapt"},
        {"error": "invalid_grant", "error_subtype": "rapt_required"},
        {"error": "invalid_grant", "error_description": "Reauthentication is needed."},
        {"error": "access_denied", "error_description": "reauth related error (invalid_rapt)"},
    ],
)
def test_a_session_that_ran_out_is_told_as_that(body: object) -> None:
    error = judged(400, body)
    assert isinstance(error, LoginNeededError)
    assert "log in again" in error.message
    assert error.hint == "run: gcloud auth application-default login"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, ""), (502, "<html>Bad Gateway</html>"), (503, {"error": "backend_error"}), (429, ""), (404, ""),
        (408, ""), (400, {"error": "temporarily_unavailable"}), (400, {"error": "internal_failure"}), (400, "[1]"),
        (403, "<html>"), (503, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "try later"}}),
        (407, ""), (302, ""),
    ],
)  # fmt: skip
def test_all_else_is_worth_a_retry(status: int, body: object) -> None:
    error = judged(status, body)
    assert isinstance(error, TemporaryError)
    assert str(status) in error.message
    assert error.hint


@pytest.mark.parametrize("body", ["", "<html>log in to the WiFi</html>", "[]", "null", {"access_token": SECRET}, "{"])
def test_a_good_status_without_a_token_is_a_portal_or_a_proxy(body: object) -> None:
    error = judged(200, body)
    assert isinstance(error, TemporaryError)
    assert "no token" in error.message
    assert "portal" in error.hint


def test_nothing_at_all_is_the_network() -> None:
    error = google_errors.judge(None, USER)
    assert isinstance(error, TemporaryError)
    assert "cannot be reached" in error.message


def test_a_wrong_clock_is_no_lost_login() -> None:
    text = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    error = judged(400, {"error": "invalid_grant", "error_description": text}, ROBOT)
    assert isinstance(error, TemporaryError)
    assert "clock" in error.hint


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_disabled_account_needs_a_human(status: int) -> None:
    body = {"error": {"status": "FAILED_PRECONDITION", "message": "The account is disabled."}}
    assert isinstance(judged(status, body), LoginNeededError)


@pytest.mark.parametrize("status", [403, 404])
def test_who_may_not_impersonate_is_told_the_binding_that_is_missing(status: int) -> None:
    login = Login("service_account", "/k", "bot@p.iam.gserviceaccount.com", "target@p.iam.gserviceaccount.com")
    path = "/v1/projects/-/serviceAccounts/target@p.iam.gserviceaccount.com:generateAccessToken"
    error = judged(status, {"error": {"status": "PERMISSION_DENIED", "message": SECRET}}, login, path)
    assert isinstance(error, LoginNeededError)
    assert "add-iam-policy-binding target@p.iam.gserviceaccount.com" in error.hint
    assert "--member=serviceAccount:bot@p.iam.gserviceaccount.com" in error.hint
    assert isinstance(judged(503, "", login, path), TemporaryError)


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize(
    "body", ["", "<html>blocked</html>", "[]", {"error": "not found"}, {"error": {"message": "no"}}]
)
def test_a_403_or_404_that_is_not_iams_is_worth_a_retry(status: int, body: object) -> None:
    login = Login("service_account", "/k", "bot@p.iam.gserviceaccount.com", "target@p.iam.gserviceaccount.com")
    path = "/v1/projects/-/serviceAccounts/target@p.iam.gserviceaccount.com:generateAccessToken"
    error = judged(status, body, login, path)
    assert isinstance(error, TemporaryError)
    assert str(status) in error.message


ADC = "run: gcloud auth application-default login"
ME, MINE = "me@example.com", "'/keys/my key.json'"


@pytest.mark.parametrize(
    ("login", "hint"),
    [
        (USER, ADC),
        (
            ROBOT,
            f"make a new key: gcloud iam service-accounts keys create {MINE} --iam-account={ROBOT.account}",
        ),
        (
            Login("service_account", "/k", "a b; rm -rf ~"),
            "make a new key: gcloud iam service-accounts keys create /k --iam-account='a b; rm -rf ~'",
        ),
        (
            Login("service_account"),
            "make a new key: gcloud iam service-accounts keys create KEY.json --iam-account=ACCOUNT",
        ),
        (Login("impersonated_service_account", "/k", target="t@p"), f"{ADC} --impersonate-service-account=t@p"),
        (Login("impersonated_service_account", "/k"), ADC),
        (Login("external_account", "/k"), "check the identity provider, and the pool that /k names"),
        (Login("external_account_authorized_user", "/k"), ADC),
        (Login("gdch_service_account", "/k"), "get a new key file for the service identity: /k"),
        (Login("metadata"), "check the service account attached to this machine"),
        (Login("authorized_user", "/db", ME, gcloud=True), f"run: gcloud auth login {ME}"),
        (
            Login("service_account", "/db", ME, gcloud=True),
            f"make a new key, then run: gcloud auth activate-service-account {ME} --key-file=KEY.json",
        ),
        (
            Login("external_account", "/db", ME, gcloud=True),
            f"check the identity provider; then run: gcloud auth login {ME} --cred-file=FILE.json",
        ),
    ],
)
def test_the_help_fits_the_login(login: Login, hint: str) -> None:
    assert judged(400, {"error": "invalid_grant"}, login).hint == hint


@pytest.mark.parametrize(
    ("login", "target", "member"),
    [
        (Login("authorized_user", account=ME, target="t@p"), "t@p", f"user:{ME}"),
        (Login("authorized_user", target="t@p"), "t@p", "user:YOU"),
        (Login("service_account", account="bot@p"), "TARGET", "serviceAccount:bot@p"),
        (Login("authorized_user", account="a b", target="t p"), "'t p'", "'user:a b'"),
    ],
)
def test_the_missing_binding_names_both_accounts(login: Login, target: str, member: str) -> None:
    error = judged(403, {"error": {"status": "PERMISSION_DENIED"}}, login, "/x:generateAccessToken")
    assert error.message == f"this login may not impersonate {login.target or 'the service account'}"
    assert error.hint == (
        f"run: gcloud iam service-accounts add-iam-policy-binding {target}"
        f" --member={member} --role=roles/iam.serviceAccountTokenCreator"
    )


@pytest.mark.parametrize(
    ("status", "word"), [(299, "no token"), (300, "redirected"), (399, "redirected"), (400, "answered HTTP 400")]
)
def test_what_a_status_means_changes_at_300_and_400(status: int, word: str) -> None:
    assert word in judged(status).message


@pytest.mark.parametrize(("status", "kind"), [(400, 1), (401, 1), (403, 1), (402, 0), (404, 0), (500, 0)])
def test_the_word_disabled_counts_where_google_refuses_an_account(status: int, kind: int) -> None:
    error = judged(status, {"error": {"status": "FAILED_PRECONDITION", "message": "Account DISABLED"}})
    assert isinstance(error, (TemporaryError, LoginNeededError)[kind])


@pytest.mark.parametrize(
    ("path", "status", "body", "iam"),
    [
        ("/x:generateAccessToken", 403, {"error": {"status": "DENIED"}}, True),
        ("/x:generateAccessToken", 403, {"error": {"status": 5}}, False),
        ("/x:generateAccessToken", 403, {"error": "DENIED"}, False),
        ("/token", 403, {"error": {"status": "DENIED"}}, False),
    ],
)
def test_an_error_of_iams_has_its_form_and_its_path(path: str, status: int, body: object, iam: bool) -> None:
    assert answer(status, body, path=path).iam == iam


def test_only_the_beginning_of_an_answer_is_read() -> None:
    body = json.dumps({"error": "invalid_grant"})
    assert answer(400, " " * (65536 - len(body)) + body).code == "invalid_grant"
    assert answer(400, " " * (65537 - len(body)) + body).code == ""


def test_what_is_read_of_an_oauth_error() -> None:
    body = {"error": "invalid_grant", "error_description": "Bad", "error_subtype": "rapt"}
    assert answer(400, body) == Answer("oauth2.googleapis.com", 400, None, "invalid_grant", "rapt", "Bad", False)
    assert (
        answer(400, {"error": {}})
        == answer(400, "no JSON")
        == Answer("oauth2.googleapis.com", 400, None, "", "", "", False)
    )


def test_a_malformed_file_is_a_configuration_error_that_names_it() -> None:
    error = google_errors.malformed(USER)
    assert isinstance(error, ConfigError)
    assert USER.path in error.message


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("120", 120.0), (" 7 ", 7.0), ("0", 0.0), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("²", None),
        ("9" * 400, 86400.0), ("86401", 86400.0), ("86399", 86399.0),
        ("\x1f1", None), ("1\x1f", None), ("nan", None), ("inf", None), ("1e9", None),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0), ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0), ("Fri, 32 Jan 2027", None),
    ],
)  # fmt: skip
def test_a_retry_after_is_seconds_or_a_date(written: str, seconds: float | None) -> None:
    assert google_errors.retry_after(written, NOW) == seconds


@given(st.text() | st.from_regex(r"\A\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [-+]?\w+\Z"), st.floats(0, 2e9))
@example("Mon, 01 Jan 0001 00:00:00 -0000", 0.0)
@example("Mon, 01 Jan 9999 00:00:00 -9999", 0.0)
@example("9" * 400, 0.0)
@example("9" * 5000, 0.0)
def test_no_retry_after_can_do_harm(written: str, now: float) -> None:
    found = google_errors.retry_after(written, now)
    assert found is None or 0 <= found <= 86400


def harmless(status: int, body: bytes, path: str) -> None:
    read = google_errors.read("host", path, status, {}, body + SECRET.encode(), NOW)
    error = google_errors.judge(read, USER)
    assert isinstance(error, VxTokenError)
    assert SECRET not in f"{error.message} {error.hint}"
    assert google_errors.judge(google_errors.read("host", path, status, {}, body, NOW), USER).hint


@given(
    st.sampled_from([200, 301, 400, 401, 403, 404, 429, 500, 503]),
    st.binary() | st.text().map(str.encode),
    st.sampled_from(["/token", "/x:generateAccessToken"]),
)
def test_any_answer_is_judged_without_a_word_of_it(status: int, body: bytes, path: str) -> None:
    harmless(status, body, path)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 65536,
        b'{"error":' * 7000,
        b'{"error": ' + b"9" * 5000 + b"}",
        b'{"error": {"status": {}, "message": []}}',
        b'{"error": ["invalid_grant"], "error_description": null, "error_subtype": 5}',
    ],
    ids=["lists", "objects", "number", "wrong types", "other wrong types"],
)
def test_a_monstrous_answer_is_judged_too(body: bytes) -> None:
    harmless(400, body, "/token")


@pytest.mark.parametrize("code", ["invalid_grant", "unknown_code", SECRET])
def test_no_text_of_googles_is_quoted(code: str) -> None:
    body = {"error": code, "error_description": SECRET, "error_uri": SECRET, "access_token": SECRET}
    for status in (200, 400, 401, 500):
        error = judged(status, body)
        assert SECRET not in f"{error.message} {error.hint} {error!r}"


def test_what_is_read_is_kept_out_of_sight_only_by_not_showing_it() -> None:
    read = answer(429, {"error": {"status": "RESOURCE_EXHAUSTED", "message": "slow down"}})
    assert (read.status, read.code, read.text, read.iam) == (429, "RESOURCE_EXHAUSTED", "slow down", False)
    paused = google_errors.read("h", "/token", 429, {"Retry-After": "30"}, b"", NOW)
    error = google_errors.judge(paused, USER)
    assert isinstance(error, TemporaryError)
    assert error.retry_after == 30.0
