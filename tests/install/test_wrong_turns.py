"""Wrong turns of a newcomer: transcripts of `vx-token setup` that end with the right next command.

Most run in this process, because each start of the program would take half a second; Google's host names lead to the
emulator.
"""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from accounts import LAUNCHER
from google_hosts import leading_to
from sandbox import Box, until
from terminals import at_terminal, ended
from vx_token.cli.main import run
from vx_token.emulator import Emulator
from vx_token.emulator.error_bodies import error, error_info
from vx_token.install import no_manager
from vx_token.install.no_manager import Place
from vx_token.vertex import request

ADC = ".config/gcloud/application_default_credentials.json"


@pytest.fixture
def fresh(box: Box, google: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A login shell's environment, here and in the box: bash, the default places, no gcloud, Google at its names."""
    del box.environ["VX_TOKEN_CONFIG"], box.environ["VX_TOKEN_RUNTIME_DIR"]
    box.runtime.mkdir(0o700)
    (box.root / "bin").mkdir()
    with leading_to(google, box.root) as way:
        box.environ |= {"XDG_RUNTIME_DIR": str(box.runtime), "SHELL": "/bin/bash", "PATH": str(box.root / "bin"), **way}
        for name in [*os.environ]:
            monkeypatch.delenv(name)
        for name, value in box.environ.items():
            monkeypatch.setenv(name, value)
        yield box


@pytest.fixture
def logged_in(fresh: Box, google: Emulator) -> Box:
    """The same after `gcloud auth application-default login`."""
    (fresh.home / ADC).parent.mkdir(parents=True)
    google.authorized_user(fresh.home / ADC)
    return fresh


def transcript(box: Box, *words: str, status: int = 0) -> str:
    """What `vx-token setup` prints, the home as `~`."""
    found, text = ran("setup", *words)
    assert found == status, text
    return re.sub(r"in \d+\.\d s", "in 0.1 s", text).replace(str(box.home), "~")


def ran(*words: str) -> tuple[int, str]:
    """Exit status and output of a command in this process, with its errors in their places."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = run([*words])
    return status, out.getvalue()


FAILED = """\
vx-token is set up, but the test request failed
test again: vx-token doctor --live
undo everything: vx-token setup --undo
"""
GCLOUD = " (to install gcloud: https://cloud.google.com/sdk/docs/install)"
QUIET = ("--yes", "--no-service", "--no-hook")
PLACE = "projects/demo/locations/us-central1"


def body(status: int, message: str, reason: str = "", **metadata: str) -> str:
    details = [error_info(reason, "googleapis.com", **metadata)] if reason else []
    return json.dumps([error(status, message, *details)])


@dataclass(frozen=True)
class Refusal:
    """Google's answer to the test request, and the error that it leads to."""

    status: int
    body: str
    message: str
    hint: str


NO_LOCATION = ("Vertex AI has no location us-central1", "run: vx-token setup --location global")
MODEL = f"Publisher Model `{PLACE}/publishers/google/models/gemini-2.5-flash` was not found"
MEMBER = '--member="user:$(gcloud config get-value account)" --role=roles/aiplatform.user'
REFUSED = {
    "the API is not enabled": Refusal(
        403,
        body(403, "Vertex AI API has not been used in project 7 before or it is disabled.", "SERVICE_DISABLED"),
        "the Vertex AI API is not enabled in the project q",  # where requests count
        f"run: gcloud services enable aiplatform.googleapis.com --project=q{GCLOUD}",
    ),
    "the permission is missing": Refusal(
        403,
        body(403, "Permission 'aiplatform.endpoints.predict' denied on resource", "IAM_PERMISSION_DENIED"),
        "this login lacks the permission aiplatform.endpoints.predict in the project demo, or there is no such project",
        f"run: gcloud projects add-iam-policy-binding demo {MEMBER} (or another: vx-token setup --project ID){GCLOUD}",
    ),
    "the project is wrong": Refusal(
        403,
        body(403, "Permission denied on resource project demo.", "CONSUMER_INVALID", consumer="projects/demo"),
        "the project demo does not exist, or this login has no access to it",
        f"find its id: gcloud projects list; then run: vx-token setup --project ID{GCLOUD}",
    ),
    "the location is wrong": Refusal(
        400, body(400, "Invalid hostname: us-central1-aiplatform.googleapis.com"), *NO_LOCATION
    ),
    "the location has no host": Refusal(404, "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>", *NO_LOCATION),
    "the model is not there": Refusal(
        404,
        body(404, MODEL),
        "the project demo has no model google/gemini-2.5-flash in us-central1",
        "choose a model: vx-token setup --model PUBLISHER/MODEL"
        "; some models are served only globally: vx-token setup --location global",
    ),
    "the quota project is refused": Refusal(
        403,
        body(403, "Caller does not have required permission to use project q.", "USER_PROJECT_DENIED"),
        "this login may not use the quota project q",
        f"run: gcloud auth application-default set-quota-project demo{GCLOUD}",
    ),
    "the login is refused": Refusal(
        401,
        body(401, "Request had invalid authentication credentials.", "ACCESS_TOKEN_EXPIRED"),
        "Vertex AI does not accept this login's token (HTTP 401)",
        f"run: gcloud auth application-default login{GCLOUD}",
    ),
}


def test_each_refusal_of_google_ends_with_the_command_that_helps(logged_in: Box, google: Emulator) -> None:
    google.authorized_user(logged_in.home / ADC, quota_project_id="q")
    words = (*QUIET, "--project", "demo", "--location", "us-central1")
    assert transcript(logged_in, *words, "--offline").endswith("test it later: vx-token doctor --live\n" + TRY)
    for turn, refusal in REFUSED.items():
        google.fail("chat", None, status=refusal.status, body=refusal.body)
        end = f"{FAILED}vx-token: {refusal.message}\nhint: {refusal.hint}\n"
        assert transcript(logged_in, *words, status=1).endswith(end), turn
        google.heal()
    assert "\ndefault: google/gemini-2.5-flash answered in 0.1 s\n" in transcript(logged_in, *words)


TRY = """\
try it:
  vx-token status
  curl https://us-central1-aiplatform.googleapis.com/v1/projects/demo/locations/us-central1/endpoints/openapi\
/chat/completions -H @"$(vx-token path header)" \\
    -H 'Content-Type: application/json' \\
    -d '{"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "hello"}]}'
"""


def test_a_login_that_google_refuses_ends_with_the_command_that_logs_in(
    logged_in: Box, google: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.revoke_identity(google.authorized_user(logged_in.home / ADC), reauth=True)
    monkeypatch.setenv("VX_TOKEN_LOCATION", "eu")
    assert transcript(logged_in, *QUIET, "--project", "demo", status=1).endswith(
        FAILED + "vx-token: Google wants you to log in again (your organisation's session length)\n"
        "hint: run: gcloud auth application-default login (first: unset VX_TOKEN_LOCATION; "
        "to install gcloud: https://cloud.google.com/sdk/docs/install)\n"
    )


def test_a_token_that_was_revoked_is_replaced_before_the_login_is_blamed(logged_in: Box, google: Emulator) -> None:
    transcript(logged_in, *QUIET, "--project", "demo")
    google.revoke((logged_in.runtime / "vx-token/default/token").read_text())
    assert "answered in" in transcript(logged_in, *QUIET)
    assert google.count("token") == 2


def test_without_a_network_it_says_so_and_offline_asks_nobody(logged_in: Box, google: Emulator) -> None:
    assert google.requests == []
    transcript(logged_in, *QUIET, "--project", "demo", "--offline")
    assert google.requests == []
    google.fail("token", None, kind="reset")
    last = transcript(logged_in, *QUIET, status=1).splitlines()[-2:]
    assert last == [
        "vx-token: Google cannot be reached",
        "hint: check the network, DNS and the proxy settings; vx-token retries automatically",
    ]


def test_the_profile_that_was_set_up_is_the_one_that_is_tested(logged_in: Box, google: Emulator) -> None:
    config = logged_in.home / ".config/vx-token/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[profiles.old]\nproject = "old"\n')
    words = ("--profile", "work", "--project", "demo", "--model", "meta/llama", "--yes", "--no-service")
    text = transcript(logged_in, *words)
    assert "\nwork: a live token, 59m left\nwork: meta/llama answered in 0.1 s\n" in text
    assert google.requests[-1].path.startswith("/v1/projects/demo/")
    assert text.endswith(WORK)
    google.fail("chat", None, status=404, body="")
    assert "test again: vx-token doctor --live --profile work\n" in transcript(logged_in, *words, status=1)


WORK = """
try it, in a new shell:
  vx-token status
  vx-token-use work
  curl "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" \\
    -H 'Content-Type: application/json' \\
    -d '{"model": "meta/llama", "messages": [{"role": "user", "content": "hello"}]}'
find problems: vx-token doctor --live --profile work
undo everything: vx-token setup --undo
"""


# --- invalid values ----------------------------------------------------------------------------------------------


def test_an_invalid_value_is_blamed_on_its_source_never_on_a_file_that_was_not_written(logged_in: Box) -> None:
    refused = {
        "GOOGLE_CLOUD_PROJECT": ("My Project", "a project id such as my-project; or pass --project"),
        "GOOGLE_CLOUD_LOCATION": ("uscentral1", "global, us, eu or a region such as us-central1; or pass --location"),
    }
    for name, (value, allowed) in refused.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GOOGLE_CLOUD_PROJECT", "demo")
            patch.setenv(name, value)
            told = transcript(logged_in, *QUIET, status=3).splitlines()[-2:]
        assert told == [f"vx-token: {name} has an invalid value: {value!r}", f"hint: allowed: {allowed}"]
    text = transcript(logged_in, *QUIET, "--project", "demo", "--profile", "my work", status=3)
    assert text.splitlines()[-2] == "vx-token: option --profile has an invalid value: 'my work'"
    assert not (logged_in.home / ".config/vx-token").exists()


# --- no service manager ------------------------------------------------------------------------------------------


def test_without_a_service_manager_it_says_at_once_how_to_keep_tokens_fresh(logged_in: Box) -> None:
    text = transcript(logged_in, "--yes", "--no-hook", "--project", "demo")
    before, command, _ = text.partition(
        "\n           to keep tokens fresh, run: nohup vx-token run >/dev/null 2>&1 & ("
    )
    assert command
    assert before.splitlines()[-1].startswith("service    no systemd user manager is running ")
    assert "answered in" in text


def test_no_hint_goes_round_in_a_circle_where_there_is_no_service_manager(logged_in: Box) -> None:
    transcript(logged_in, *QUIET, "--project", "demo")
    ends = {"run", "exec", "setup", "help"}  # what starts something, asks, or only explains

    def follow(command: str, way: tuple[str, ...]) -> None:
        assert command not in way, " > ".join([*way, command])
        _, text = ran(*command.split())
        for hint in re.findall(r"hint: (.*)", text):
            for words in re.findall(r"vx-token ([a-z]+(?: [a-z]+)?(?: --[a-z]+)?)", hint):
                if words.split()[0] not in ends:
                    follow(words, (*way, command))

    for command in ("status", "doctor --live", "refresh", *(f"service {verb}" for verb in VERBS)):
        follow(command, ())
    _, told = ran("service", "install")
    assert "\nhint: run: nohup vx-token run >/dev/null 2>&1 & (" in told


VERBS = ("install", "start", "stop", "restart", "status", "logs", "uninstall")


def test_the_command_for_machines_without_a_service_manager_keeps_tokens_fresh(
    signed_in: Box, google: Emulator
) -> None:
    program = signed_in.root / "vx-token"
    program.write_text(LAUNCHER)
    program.chmod(0o700)
    environ = signed_in.environ | {"PATH": f"{signed_in.root}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", f"{no_manager.RUN} sleep 0"], env=environ, check=True)
    note = signed_in.runtime / ".daemon.json"
    pid = until(lambda: note.exists() and int(json.loads(note.read_text())["pid"]))
    try:
        until(lambda: signed_in.read("token"))
        os.kill(pid, signal.SIGHUP)  # as a terminal that is closed sends it: a refresh, and no end
        until(lambda: google.count("token") > 1)
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not note.exists())


@pytest.mark.parametrize(
    ("environ", "files", "release", "uid", "place"),
    [
        ({}, ["run/systemd/system"], "6.1", 1000, Place.SESSION),
        ({}, ["run/systemd/system"], "6.1", 0, Place.ROOT),
        ({}, [], "5.15-microsoft-standard-WSL2", 1000, Place.WSL),
        ({}, ["run/systemd/system"], "5.15-microsoft-standard-WSL2", 1000, Place.SESSION),
        ({"KUBERNETES_SERVICE_HOST": "x"}, [], "6.1", 0, Place.CONTAINER),
        ({}, [".dockerenv"], "6.1", 0, Place.CONTAINER),
        ({}, ["run/.containerenv"], "6.1", 1000, Place.CONTAINER),
        ({}, [], "6.1", 1000, Place.OTHER),
    ],
)
def test_the_place_without_a_manager_is_known(
    tmp_path: Path, environ: dict[str, str], files: list[str], release: str, uid: int, place: Place
) -> None:
    for name in files:
        (tmp_path / name).mkdir(parents=True)
    assert no_manager.place(environ, tmp_path, release, uid) is place
    assert no_manager.missing(place).hint.startswith(f"run: {no_manager.RUN} (")


# --- a key of another provider -----------------------------------------------------------------------------------


def test_a_key_that_is_set_already_is_named_with_what_will_change(
    logged_in: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    (logged_in.home / ".bashrc").write_text("# mine\nexport OPENAI_BASE_URL=https://api.example/v1\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    text = transcript(logged_in, "--dry-run", "--no-service", "--project", "demo")
    assert REPLACED in text
    assert "sk-mine" not in text
    monkeypatch.setenv("VX_TOKEN_EXPIRES_AT", "1")  # then the key is that of the hook
    (logged_in.home / ".bashrc").write_text("")
    assert "is set" not in transcript(logged_in, "--dry-run", "--no-service", "--project", "demo")


REPLACED = """\
hook       OPENAI_API_KEY is set in this shell
hook       OPENAI_BASE_URL is set by ~/.bashrc line 2
           new shells get OPENAI_API_KEY and OPENAI_BASE_URL for Vertex AI instead;
           vx-token-off brings your own values back there
"""


# --- a person at a terminal --------------------------------------------------------------------------------------


def gcloud(box: Box, google: Emulator) -> None:
    """A gcloud that logs in at the second try."""
    google.authorized_user(box.root / "new.json")
    program = box.root / "bin/gcloud"
    program.write_text(f"""#!/bin/sh
PATH=/usr/bin:/bin
[ "$*" = "auth application-default login" ] || exit 9
[ -e {box.root}/tried ] || {{ : >{box.root}/tried; exit 1; }}
mkdir -p {box.home}/.config/gcloud
cp {box.root}/new.json {box.home}/{ADC}
""")
    program.chmod(0o700)


def test_without_a_login_gcloud_is_offered_and_wrong_answers_are_asked_again(fresh: Box, google: Emulator) -> None:
    gcloud(fresh, google)
    terminal = at_terminal(fresh, "setup", "--no-service")
    terminal.expect_exact("login      no Google login was found\r\n")
    terminal.expect_exact("  1  log in now with: gcloud auth application-default login\r\n")
    terminal.expect_exact("  2  a service account's key file\r\n  3  the metadata server of this machine")
    terminal.expect_exact("which login (1 to 3) [1]: ")
    terminal.sendline("9")
    terminal.expect_exact("answer with a number from 1 to 3")
    terminal.sendline("")
    terminal.expect_exact("gcloud did not complete the login\r\n")
    terminal.expect_exact("which login (1 to 3) [1]: ")
    terminal.sendline("1")
    terminal.expect_exact(f"login      authorized_user ({fresh.home}/{ADC})")
    terminal.expect_exact("the Google Cloud project: ")
    terminal.sendline("My Project")
    terminal.expect_exact("the project has an invalid value: 'My Project'; allowed: a project id such as my-project")
    terminal.expect_exact("the Google Cloud project: ")
    terminal.sendline("demo")
    terminal.expect_exact("the location (global, us, eu or a region) [global]: ")
    terminal.sendline("uscentral1")
    terminal.expect_exact("the location has an invalid value: 'uscentral1'; allowed: global, us, eu or a region")
    terminal.sendline("us-cental1")
    terminal.expect_exact("us-cental1 is not a location that this version knows; did you mean us-central1?\r\n")
    terminal.expect_exact("Use us-cental1 all the same? [Y/n]: ")
    terminal.sendline("n")
    terminal.expect_exact("[global]: ")
    terminal.sendline("")
    terminal.expect_exact("Set OPENAI_API_KEY automatically in new bash shells? [Y/n]: ")
    terminal.sendline("perhaps")
    terminal.expect_exact("answer y for yes or n for no\r\n")
    terminal.sendline("n")
    terminal.expect_exact("Do this? [Y/n]: ")
    terminal.sendline("no")
    terminal.expect_exact("nothing changed\r\n")
    assert ended(terminal) == 0
    assert not (fresh.home / ".config/vx-token").exists()


def test_without_a_login_a_key_file_serves_and_ctrl_c_says_what_was_done(fresh: Box, google: Emulator) -> None:
    google.service_account(fresh.key)
    google.fail("chat", None, kind="hang")
    terminal = at_terminal(fresh, "setup", "--no-service", "--no-hook", "--project", "demo", "--location", "global")
    terminal.expect_exact("gcloud is not installed; see https://cloud.google.com/sdk/docs/install")
    terminal.expect_exact("which login (1 to 2): ")
    terminal.sendline("1")
    terminal.expect_exact("the path of the key file: ")
    terminal.sendline("nowhere.json")
    terminal.expect_exact(f"{fresh.root}/nowhere.json does not exist\r\n")
    terminal.sendline(str(fresh.key))
    terminal.expect_exact(f"login      account-1@demo.iam.gserviceaccount.com ({fresh.key})")
    terminal.expect_exact("Do this? [Y/n]: ")
    terminal.sendline("")
    terminal.expect_exact("waiting for an answer of the model … 2 s")  # it shows that it is alive
    terminal.sendintr()
    terminal.expect_exact(f"vx-token: interrupted; done so far: wrote {fresh.home}/.config/vx-token/config.toml")
    terminal.expect_exact(
        "hint: to complete it, run it again: vx-token setup; to take it back: vx-token setup --undo\r\n"
    )
    assert ended(terminal) == 130
    assert f'credentials = "{fresh.key}"' in (fresh.home / ".config/vx-token/config.toml").read_text()
    terminal = at_terminal(fresh, "setup", "--undo")
    terminal.expect_exact("Do this? [Y/n]: ")
    terminal.sendintr()
    terminal.expect_exact("vx-token: interrupted; nothing changed\r\nhint: run it again: vx-token setup --undo\r\n")
    assert ended(terminal) == 130
    assert "done" in transcript(fresh, "--undo", "--yes")
    assert not (fresh.home / ".config/vx-token").exists()


SYSTEMCTL = """#!/bin/sh
case " $* " in *" restart "*) exec /usr/bin/sleep 30 ;; esac
"""


def test_a_persons_own_key_is_replaced_only_after_a_question_and_a_slow_service_can_be_interrupted(
    logged_in: Box,
) -> None:
    (logged_in.root / "bin/systemctl").write_text(SYSTEMCTL)
    (logged_in.root / "bin/systemctl").chmod(0o700)
    before = {*logged_in.home.rglob("*")}
    logged_in.environ["OPENAI_API_KEY"] = "sk-mine"
    terminal = at_terminal(logged_in, "setup", "--hook", "--project", "demo", "--location", "global")
    terminal.expect_exact("hook       OPENAI_API_KEY is set in this shell\r\n")
    terminal.expect_exact("Use those of vx-token in new bash shells? [Y/n]: ")
    terminal.sendline("n")
    terminal.expect_exact("Install the service, which keeps a fresh token at all times? [Y/n]: ")
    terminal.sendline("")
    terminal.expect_exact("install and start the service")
    terminal.expect_exact("Do this? [Y/n]: ")
    terminal.sendline("")
    terminal.expect_exact("starting the service … 2 s")
    terminal.sendintr()
    terminal.expect_exact(f"vx-token: interrupted; done so far: wrote {logged_in.home}/.config/vx-token/config.toml")
    terminal.expect_exact(
        ", began to install the service\r\nhint: to complete it, run it again: vx-token setup; to take"
    )
    assert ended(terminal) == 130
    assert (logged_in.home / ".config/systemd/user/vx-token.service").exists()
    transcript(logged_in, "--undo", "--yes")
    assert {*logged_in.home.rglob("*")} == before


def test_the_metadata_server_can_be_chosen_beside_any_login(
    logged_in: Box, google: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.setenv(name, google.metadata_host)
    text = transcript(logged_in, *QUIET, "--project", "demo", "--credentials", "metadata")
    assert text.startswith("login      this machine's metadata server\n")
    assert "answered in" in text
    assert 'credentials = "metadata"\n' in (logged_in.home / ".config/vx-token/config.toml").read_text()
    assert google.identity_of((logged_in.runtime / "vx-token/default/token").read_text()) == google.metadata_account


def test_a_profile_with_an_account_of_gcloud_is_tested_with_it(fresh: Box, google: Emulator) -> None:
    config, folder = fresh.home / ".config/vx-token/config.toml", fresh.home / ".config/gcloud"
    for each in (config.parent, folder):
        each.mkdir(parents=True)
    config.write_text('[profiles.work]\nproject = "demo"\naccount = "me@example.com"\n')
    google.gcloud_login(folder, "me@example.com")
    text = transcript(fresh, *QUIET)
    assert text.startswith("login      ")
    assert "me@example.com" in text.splitlines()[0]
    assert "work: google/gemini-2.5-flash answered in 0.1 s" in text


def test_an_error_in_the_middle_says_what_was_done(logged_in: Box) -> None:
    (logged_in.home / ".profile").symlink_to("/proc/self/nothing/profile")
    last = transcript(logged_in, "--yes", "--no-service", "--project", "demo", status=3).splitlines()[-3:]
    assert last[0].startswith("done so far: wrote ~/.config/vx-token/config.toml, wrote ~/.bashrc; to take it back: ")
    assert last[1].startswith("vx-token: cannot change ~/.profile: ")


def test_nobody_waits_longer_than_the_request_may_take(logged_in: Box, google: Emulator) -> None:
    google.fail("chat", None, kind="hang")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "TIMEOUT", 1.0)
        assert "did not answer within 1 s\nhint: check the network" in transcript(
            logged_in, *QUIET, "--project", "demo", status=1
        )
