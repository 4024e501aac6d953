"""Setup with gcloud's own accounts: what it offers, what it takes without questions, and what it writes."""

import json
import ssl
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from google_hosts import leading_to
from sandbox import Box
from vx_token.config.load import parse_config
from vx_token.emulator import Emulator
from vx_token.errors import LoginNeededError
from vx_token.install import desktop
from vx_token.install.setup_config import plan_config
from vx_token.install.setup_io import DefaultPrompter, SetupContext, SetupOptions


class Person:
    """Answers the questions from a list, and the others with their defaults."""

    interactive = True

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def value(self, question: str, default: str) -> str:
        """Give the next answer; a question that nobody expects has a default."""
        assert self.answers or default, question
        return self.answers.pop(0) if self.answers else default

    def confirm(self, question: str) -> bool:
        """Agree."""
        raise AssertionError(question)


def unused(*_: Any) -> Any:
    raise AssertionError("nothing is run here")


Planned = tuple[dict[str, Any], str]


@pytest.fixture
def plan(box: Box) -> Callable[..., Planned]:
    """Plan a configuration; the profile that would be written, and what was printed."""

    def run(*answers: str, asks: bool = False, old: str = "", **values: str) -> Planned:
        if old:
            box.config.write_text(old)
        lines: list[str] = []
        prompter = Person(*answers) if asks else DefaultPrompter()
        environ = {**box.environ, "NO_GCE_CHECK": "true", "PATH": ""}
        login = desktop.session(environ, "linux", 0)
        context = SetupContext(environ, lines.append, prompter, unused, unused, unused, unused, login, unused, unused)
        result = plan_config(SetupOptions(values={"project": "demo", "location": "global", **values}), context)
        assert result.edit is not None
        text = (result.edit.new or b"").decode()
        assert parse_config(text, Path("c.toml"), {"HOME": "/"}, {}, Path("/")).profile() == result.config.profile()
        return tomllib.loads(text)["profiles"][result.profile], "\n".join(lines)

    return run


def folder(box: Box) -> Path:
    return box.home / ".config/gcloud"


def activate(box: Box, account: str) -> None:
    (folder(box) / "configurations").mkdir(parents=True, exist_ok=True)
    (folder(box) / "configurations/config_default").write_text(f"[core]\naccount = {account}\n")


def test_the_only_account_is_taken_without_a_question(box: Box, google: Emulator, plan: Callable[..., Planned]) -> None:
    name = google.gcloud_login(folder(box))
    written, text = plan()
    assert written == {"project": "demo", "location": "global", "account": name}
    assert f"login      gcloud's login of {name}" in text


def test_the_active_account_of_several_is_taken_and_stays(
    box: Box, google: Emulator, plan: Callable[..., Planned]
) -> None:
    names = [google.gcloud_login(folder(box)), google.gcloud_login(folder(box))]
    with pytest.raises(LoginNeededError) as raised:
        plan()
    assert raised.value.hint.endswith(f"vx-token setup --account {names[0]} or {names[1]}")
    activate(box, names[1])
    assert plan()[0]["account"] == names[1]


def test_a_person_chooses_among_the_accounts(box: Box, google: Emulator, plan: Callable[..., Planned]) -> None:
    names = [google.gcloud_login(folder(box)), google.gcloud_login(folder(box))]
    activate(box, names[1])
    written, text = plan("1", asks=True)
    assert written["account"] == names[1]
    assert f"  1  gcloud's login of {names[1]}\n  2  gcloud's login of {names[0]}\n  3  gcloud's active account" in text
    assert plan("2", asks=True)[0]["account"] == names[0]
    assert plan("3", asks=True)[0]["account"] == "active"
    assert plan(asks=True)[0]["account"] == names[1]  # the default answer


def test_application_default_credentials_come_first_and_the_accounts_are_named(
    box: Box, google: Emulator, plan: Callable[..., Planned]
) -> None:
    name = google.gcloud_login(folder(box))
    google.authorized_user(folder(box) / "application_default_credentials.json")
    written, text = plan()
    assert "account" not in written
    assert f"gcloud has others; to use one: --account {name}" in text
    assert plan(account=name)[0]["account"] == name


def test_an_account_replaces_a_credential_file_in_the_configuration_and_the_other_way_round(
    box: Box, google: Emulator, plan: Callable[..., Planned]
) -> None:
    name, old = google.gcloud_login(folder(box)), '[profiles.default]\nproject = "demo"\nlocation = "global"\n'
    google.service_account(box.key)
    written, _ = plan(old=f'{old}credentials = "{box.key}"\n', account=name)
    assert (written["account"], written["credentials"]) == (name, "")
    written, _ = plan(old=f'{old}account = "{name}"\n', credentials=str(box.key))
    assert (written["account"], written["credentials"]) == ("", str(box.key))


def test_an_account_without_a_login_is_refused_with_the_command(
    box: Box, google: Emulator, plan: Callable[..., Planned]
) -> None:
    google.gcloud_login(folder(box))
    with pytest.raises(LoginNeededError) as raised:
        plan(account="nobody@example.com")
    assert raised.value.hint == "run: gcloud auth login nobody@example.com"


def test_a_database_that_is_damaged_hides_no_other_way(box: Box, plan: Callable[..., Planned]) -> None:
    folder(box).mkdir(parents=True)
    (folder(box) / "credentials.db").write_bytes(b"junk" * 3000)
    with pytest.raises(LoginNeededError, match="no Google login was found"):
        plan()


def test_a_gcloud_login_alone_leads_to_an_answer_of_a_deployed_model(box: Box, google: Emulator) -> None:
    name = google.gcloud_login(folder(box))
    activate(box, name)
    with (folder(box) / "configurations/config_default").open("a") as configuration:
        configuration.write("project = demo\n\n[ai]\nregion = us-central1\n")
    google.deploy("111", name="my llama", models=["llama"])
    with leading_to(google, box.root) as way:
        box.environ |= {**way, "NO_GCE_CHECK": "true"}

        def run(*words: str) -> str:
            done = box.vx(*words)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        assert "answered in" in run("setup", "--yes", "--no-service", "--no-hook")
        assert "google/gemini-2.5-flash" in run("models")
        [endpoint] = json.loads(run("endpoints", "--json"))["endpoints"]
        run("endpoints", "use", endpoint["id"])
        printed = json.loads(run("print", "--format", "json"))
        assert google.identity_of(printed["token"]) == name
        assert printed["base_url"].endswith("/locations/us-central1/endpoints/111")
        trust = ssl.create_default_context(cafile=way["REQUESTS_CA_BUNDLE"])
        with (
            openai.DefaultHttpxClient(proxy=way["https_proxy"], verify=trust) as http,
            openai.OpenAI(
                api_key=printed["token"], base_url=printed["base_url"], http_client=http, max_retries=0
            ) as client,
        ):
            assert client.chat.completions.create(model="llama", messages=[{"role": "user", "content": "hi"}]).choices
