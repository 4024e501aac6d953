"""`print` as tools call it: one line on success, silence on stdout otherwise, whatever the surroundings."""

import json
import math
import os
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox import Box, until
from vx_token.emulator import Emulator

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
LONG_WAY = ("--min-ttl", "1m")  # an option that the quick answer leaves to the whole program


def printed(box: Box, *words: str) -> str:
    """What a successful `print` says; it says nothing on stderr."""
    done = box.vx("print", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def within(box: Box, shell: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """`print` from inside a line of shell, in which "$@" stands for it."""
    argv = ["/bin/sh", "-c", shell, "sh", *box.command("print", *words)]
    return subprocess.run(argv, env=box.environ, cwd=box.root, capture_output=True, text=True, timeout=30, check=False)


def expire(box: Box, google: Emulator) -> None:
    """Let a token come and end; those after it live an hour again."""
    google.lifetime = 1.0
    assert box.vx("refresh").returncode == 0
    until(lambda: time.time() > google.issued[-1].expires_at, 3)
    google.lifetime = 3600.0


def test_stdout_is_the_token_and_one_newline(signed_in: Box, google: Emulator) -> None:
    assert printed(signed_in) == google.issued[-1].value + "\n"


def test_a_fresh_token_costs_no_request(signed_in: Box, google: Emulator) -> None:
    first = printed(signed_in)
    assert {printed(signed_in), printed(signed_in, *LONG_WAY), printed(signed_in, "--profile", "gemini")} == {first}
    assert google.count("token") == 1


SURROUNDINGS = {
    "with stdin closed": 'exec "$@" <&-',
    "with stderr closed": 'exec "$@" 2>&-',
    "with stdin and stderr closed": 'exec "$@" <&- 2>&-',
    "with stderr joined to stdout": 'exec "$@" 2>&1',
    "with stdin that never ends": 'exec "$@" </dev/zero',
    "without a home": 'unset HOME; exec "$@"',
    "with an empty home": 'HOME= exec "$@"',
    "without PATH": 'unset PATH; exec "$@"',
    "with an empty PATH": 'PATH= exec "$@"',
    "without LANG": 'unset LANG LC_ALL; exec "$@"',
    "in the C locale": 'LC_ALL=C LANG=C exec "$@"',
    "without TERM": 'unset TERM; exec "$@"',
    "in a folder that was removed": 'mkdir gone; cd gone; rmdir ../gone; exec "$@"',
    "in the root folder": 'cd /; exec "$@"',
    "with a wide umask": 'umask 0; exec "$@"',
    "with a mad umask": 'umask 0777; exec "$@"',
    "in a session of its own": 'exec setsid -w "$@"',
    "with warnings on": 'PYTHONWARNINGS=always PYTHONDEVMODE=1 exec "$@"',
    "with a traced OpenAI environment": 'OPENAI_API_KEY=old OPENAI_BASE_URL=http://127.0.0.1:9 exec "$@"',
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_print_works(signed_in: Box, google: Emulator, surroundings: str) -> None:
    refreshed = within(signed_in, SURROUNDINGS[surroundings])
    assert (refreshed.returncode, refreshed.stdout) == (0, google.issued[-1].value + "\n")
    quick = within(signed_in, SURROUNDINGS[surroundings])
    slow = within(signed_in, SURROUNDINGS[surroundings], *LONG_WAY)
    assert {quick.stdout, slow.stdout} == {refreshed.stdout}
    assert refreshed.stderr + quick.stderr + slow.stderr == ""
    modes = {path.name: path.stat().st_mode & 0o777 for path in (signed_in.runtime / "gemini").iterdir()}
    assert set(modes.values()) == {0o600}


def test_a_stdout_that_is_closed_or_full_shows_no_token_elsewhere(signed_in: Box) -> None:
    token = printed(signed_in).strip()
    for shell in ('exec "$@" >&-', 'exec "$@" >/dev/full'):
        for words in ((), LONG_WAY):
            done = within(signed_in, shell, *words)
            assert done.returncode == 5
            assert done.stderr.startswith("vx-token: cannot write the output: ")
            assert token not in done.stderr
            assert "Traceback" not in done.stderr


def test_print_never_reads_stdin(signed_in: Box) -> None:
    for words in ((), LONG_WAY):
        argv = signed_in.command("print", *words)
        with subprocess.Popen(argv, env=signed_in.environ, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.wait(20) == 0


def test_a_reader_that_went_away_is_met_in_silence(signed_in: Box) -> None:
    printed(signed_in)
    for words in ((), LONG_WAY):
        done = within(signed_in, '{ sleep 0.3; "$@"; echo "status $?" >&2; } | :', *words)
        assert done.stderr == "status 141\n"


def test_header_and_json_say_the_same(signed_in: Box, google: Emulator) -> None:
    token = printed(signed_in).strip()
    assert printed(signed_in, "--format", "header") == f"Authorization: Bearer {token}\n"
    text = printed(signed_in, "--format", "json")
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    said = json.loads(text)
    assert list(said) == ["token", "expires_at", "expires_in", "profile", "base_url"]
    assert (said["token"], said["profile"], said["base_url"]) == (token, "gemini", google.base_url())
    end = datetime.strptime(said["expires_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    assert abs(end - google.issued[-1].expires_at) < 2
    assert 3550 < said["expires_in"] <= 3600


def test_the_environment_names_the_profile(signed_in: Box, google: Emulator) -> None:
    signed_in.config.write_text('default_profile = "gemini"\n' + signed_in.config.read_text())
    user = google.authorized_user(signed_in.root / "user.json")
    signed_in.profile("user", url=google.base_url(), credentials="user.json")
    signed_in.environ["VX_TOKEN_PROFILE"] = "user"
    for _ in range(2):
        assert google.identity_of(printed(signed_in).strip()) == user
    assert google.identity_of(printed(signed_in, "--profile", "gemini").strip()) != user


def test_the_profile_called_default_is_the_default_one(signed_in: Box) -> None:
    assert printed(signed_in, "--profile", "default") == printed(signed_in)
    assert (signed_in.runtime / "default").resolve() == (signed_in.runtime / "gemini").resolve()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--profile", "nobody"], 3),
        (["--profile", "../x"], 3),
        (["--profile"], 2),
        (["--format", "xml"], 2),
        (["--min-ttl", "soon"], 2),
        (["--min-ttl", "-5"], 2),
        (["--min-ttl", "13h"], 2),
        (["--bogus"], 2),
        (["extra"], 2),
        (["--location", "../x"], 3),
    ],
)
def test_a_mistake_has_its_status_and_a_hint(signed_in: Box, words: list[str], status: int) -> None:
    signed_in.refresh()
    done = signed_in.vx("print", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["vx-token", "hint"]


def test_a_token_is_refreshed_before_it_has_less_life_than_asked_for(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 20.0
    first = printed(signed_in)
    born = google.issued[-1].issued_at
    assert printed(signed_in, "--min-ttl", "10s") == first
    until(lambda: time.time() > born + 4)
    assert printed(signed_in) == first
    second = printed(signed_in, "--min-ttl", "17s")  # three seconds of the new token's may pass
    assert second == google.issued[-1].value + "\n" != first
    assert google.count("token") == 2


def test_a_token_shorter_than_the_usual_wish_is_refreshed_at_half_its_life(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 4.0
    first = printed(signed_in)
    born = google.issued[-1].issued_at
    assert printed(signed_in) == first or time.time() > born + 2
    until(lambda: time.time() > born + 2.1, 5)
    second = printed(signed_in)
    assert second != first
    assert google.count("token") == 2


def test_a_life_that_cannot_be_had_is_a_failure_only_when_asked_for(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 60.0
    printed(signed_in)
    done = signed_in.vx("print", "--min-ttl", "10m")
    assert (done.returncode, done.stdout) == (5, "")
    assert "60 s" in done.stderr
    assert google.count("token") == 2  # a source may give longer lives than it did
    assert printed(signed_in) == google.issued[-1].value + "\n"
    google.lifetime = 3600.0
    assert signed_in.vx("print", "--min-ttl", "10m").stdout == google.issued[-1].value + "\n"
    assert google.count("token") == 3


def test_a_mended_setting_helps_the_very_next_call(box: Box, google: Emulator) -> None:
    box.executed = True  # a child writes more than the token
    google.external_account(box.key, box.root / "subject")
    answer = {"version": 1, "success": True, "token_type": "urn:ietf:params:oauth:token-type:jwt"}
    answer |= {"id_token": (box.root / "subject").read_text(), "expiration_time": int(time.time() + 3600)}
    (box.root / "answer.json").write_text(json.dumps(answer))
    source = {"executable": {"command": f"cat {box.root}/answer.json", "timeout_millis": 5000}}
    box.key.write_text(json.dumps(json.loads(box.key.read_text()) | {"credential_source": source}))
    box.profile(url=google.base_url())
    done = box.vx("print")
    assert (done.returncode, done.stdout) == (3, "")
    assert "hint: if you trust it, set GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1" in done.stderr
    box.environ["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"] = "1"
    assert printed(box) == google.issued[-1].value + "\n"


def test_the_last_good_token_is_served_to_its_end_and_never_after(signed_in: Box, google: Emulator) -> None:
    google.fail("token", None, kind="reset")
    started = time.monotonic()
    assert signed_in.vx("print").returncode == 5
    own = time.monotonic() - started
    google.heal()
    google.lifetime = float(math.ceil(max(6, 12 * own)))  # three calls that ask in vain fit into half of it
    assert signed_in.vx("refresh").returncode == 0
    token = printed(signed_in)
    end = google.issued[-1].expires_at
    google.fail("token", None, kind="reset")
    until(lambda: time.time() > end - google.lifetime / 2, google.lifetime)
    for _ in range(3):
        done = signed_in.vx("print")
        assert time.time() < end - 1, "the machine is too slow"  # an end in whole seconds may be one second early
        assert (done.returncode, done.stdout, done.stderr) == (0, token, "")
    until(lambda: time.time() > end, google.lifetime)
    done = signed_in.vx("print")
    assert (done.returncode, done.stdout) == (5, "")
    assert "cannot be reached" in done.stderr
    google.heal()
    until(lambda: signed_in.vx("print").returncode == 0, 30, "the end of the pause")
    assert printed(signed_in) == google.issued[-1].value + "\n"


def test_a_refused_login_is_not_asked_again_however_often_print_is_called(box: Box, google: Emulator) -> None:
    user = google.authorized_user(box.key)
    box.profile(url=google.base_url())
    google.revoke_identity(user)
    for words in ((), LONG_WAY, ("--format", "json")) * 3:
        done = box.vx("print", *words)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr.endswith("hint: run: gcloud auth application-default login\n")
    assert google.count("token") == 1


def test_a_new_login_is_tried_at_once(box: Box, google: Emulator) -> None:
    google.revoke_identity(google.authorized_user(box.key), reauth=True)
    box.profile(url=google.base_url())
    assert box.vx("print").returncode == 4
    user = google.authorized_user(box.key)
    assert google.identity_of(printed(box).strip()) == user


def test_a_new_login_replaces_a_token_that_still_lives(box: Box, google: Emulator) -> None:
    google.authorized_user(box.key)
    box.profile(url=google.base_url())
    first = printed(box)
    user = google.authorized_user(box.key)
    second = printed(box)
    assert second != first
    assert google.identity_of(second.strip()) == user


def test_refresh_always_asks(box: Box, google: Emulator) -> None:
    user = google.authorized_user(box.key)
    box.profile(url=google.base_url())
    google.revoke_identity(user)
    assert [box.vx("refresh").returncode for _ in range(3)] == [4, 4, 4]
    assert google.count("token") == 3
    google.restore_identity(user)
    assert box.vx("refresh").returncode == 0
    assert google.identity_of(printed(box).strip()) == user


def test_a_server_that_asks_for_patience_is_left_alone(box: Box, google: Emulator) -> None:
    google.impersonated(box.key)
    box.profile(url=google.base_url())
    google.fail("iam", status=503, headers={"Retry-After": "600"})
    assert [box.vx("print").returncode for _ in range(3)] == [5, 5, 5]
    assert google.count("iam") == 1


def test_another_configuration_is_seen_at_once(signed_in: Box, google: Emulator) -> None:
    first = printed(signed_in)
    user = google.authorized_user(signed_in.root / "user.json")
    signed_in.config.write_text(signed_in.config.read_text().replace(str(signed_in.key), "user.json"))
    second = printed(signed_in)
    assert second != first
    assert google.identity_of(second.strip()) == user
    signed_in.config.write_text("[profiles.gemini\n")
    done = signed_in.vx("print")
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("kind", ["a pipe", "a link to a pipe", "a device", "a folder"])
@pytest.mark.parametrize("command", ["print", "print --format json", "env", "status", "refresh", "run"])
def test_a_configuration_that_is_no_regular_file_is_refused(signed_in: Box, kind: str, command: str) -> None:
    signed_in.refresh()  # so that the quick answer has something to say
    signed_in.config.unlink()
    if kind == "a pipe":
        os.mkfifo(signed_in.config)
    elif kind == "a link to a pipe":
        os.mkfifo(signed_in.root / "pipe")
        signed_in.config.symlink_to("pipe")
    elif kind == "a device":
        signed_in.config.symlink_to("/dev/zero")
    else:
        signed_in.config.mkdir()
    done = signed_in.vx(*command.split(), timeout=10)
    assert done.returncode == 3
    assert command == "status" or not done.stdout
    reason = "Is a directory" if kind == "a folder" else "it is not a regular file"
    assert done.stderr.splitlines()[0] == f"vx-token: cannot read {signed_in.config}: {reason}"
    assert done.stderr.splitlines()[1].startswith("hint: ")


def test_setup_does_not_wait_for_a_pipe_either(box: Box) -> None:
    os.mkfifo(box.config)
    done = box.vx("setup", "--yes", "--dry-run", "--no-service", "--project", "demo", timeout=10)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"vx-token: cannot read {box.config}: it is not a regular file\nhint: ")


def test_a_configuration_behind_a_link_is_read(signed_in: Box) -> None:
    elsewhere = signed_in.config.rename(signed_in.root / "elsewhere.toml")
    signed_in.config.symlink_to(elsewhere)
    printed(signed_in)


def test_another_credential_in_the_environment_is_seen_at_once(box: Box, google: Emulator) -> None:
    box.profile(url=google.base_url(), credentials=None)
    identities = []
    for name in ("one.json", "two.json"):
        identities.append(google.service_account(box.root / name))
        box.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(box.root / name)
        assert google.identity_of(printed(box).strip()) == identities[-1]
    assert identities[0] != identities[1]


def test_the_login_of_this_environment_is_taken_where_no_daemon_has_another(box: Box, google: Emulator) -> None:
    box.profile(url=google.base_url(), credentials=None)
    assert box.vx("print").returncode == 4
    sdk = box.root / "sdk"
    sdk.mkdir()
    user = google.authorized_user(sdk / "application_default_credentials.json")
    box.environ["CLOUDSDK_CONFIG"] = str(sdk)
    assert google.identity_of(printed(box).strip()) == user
    robot = google.service_account(box.root / "robot.json")
    box.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(box.root / "robot.json")
    assert google.identity_of(printed(box).strip()) == robot
    del box.environ["GOOGLE_APPLICATION_CREDENTIALS"]
    for words in ((), LONG_WAY):
        assert google.identity_of(printed(box, *words).strip()) == user
    del box.environ["CLOUDSDK_CONFIG"]  # as a cron job: nothing to go by but what is on record
    assert google.identity_of(printed(box).strip()) == user
    assert google.count("token") == 3


def test_beside_a_daemon_another_login_has_files_of_its_own(box: Box, google: Emulator) -> None:
    box.profile(url=google.base_url(), credentials=None)
    names = [google.service_account(box.root / name) for name in ("one.json", "two.json")]
    box.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(box.root / "one.json")
    with box.daemon():
        until(lambda: box.read("token"))
        for variables, found in (
            ({"GOOGLE_APPLICATION_CREDENTIALS": str(box.root / "two.json")}, names[1]),
            ({"VX_TOKEN_CREDENTIALS": str(box.root / "two.json")}, names[1]),
            ({"GOOGLE_APPLICATION_CREDENTIALS": ""}, names[0]),
        ):
            before, box.environ = box.environ, box.environ | variables
            for _ in range(2):
                assert google.identity_of(printed(box).strip()) == found
            box.environ = before
        gcloud = box.home / ".config" / "gcloud"
        gcloud.mkdir(parents=True)
        google.authorized_user(gcloud / "application_default_credentials.json")
        del box.environ["GOOGLE_APPLICATION_CREDENTIALS"]
        for words in ((), LONG_WAY):
            assert google.identity_of(printed(box, *words).strip()) == names[0]
        assert google.identity_of(box.read("token")) == names[0]
    assert google.count("token") <= 3


def test_a_relative_credential_file_is_found_from_here(signed_in: Box, google: Emulator) -> None:
    (signed_in.root / "work").mkdir()
    name = google.service_account(signed_in.root / "work" / "key.json")
    signed_in.config.rename(signed_in.root / "home" / "config.toml")
    signed_in.environ["VX_TOKEN_CONFIG"] = str(signed_in.root / "home" / "config.toml")
    assert google.identity_of(printed(signed_in, "--credentials", "work/key.json").strip()) == name
    signed_in.environ["VX_TOKEN_CREDENTIALS"] = "work/key.json"
    assert google.identity_of(printed(signed_in).strip()) == name


@pytest.mark.parametrize("words", [(), LONG_WAY])
def test_without_configuration_there_must_be_a_project(box: Box, google: Emulator, words: tuple[str, ...]) -> None:
    gcloud = box.home / ".config" / "gcloud"
    gcloud.mkdir(parents=True)
    google.authorized_user(gcloud / "application_default_credentials.json")
    del box.environ["VX_TOKEN_CONFIG"]
    box.environ["GOOGLE_CLOUD_PROJECT"] = "demo"
    printed(box)
    del box.environ["GOOGLE_CLOUD_PROJECT"]
    assert box.vx("print", *words).returncode == 3


def test_a_gateway_key_that_is_not_safe_costs_no_token(signed_in: Box) -> None:
    signed_in.config.write_text(signed_in.config.read_text() + 'mode = "gateway"\n')
    key = signed_in.root / "gateway.key"
    key.touch()
    key.chmod(0o644)
    assert printed(signed_in).strip() == signed_in.read("token")
    assert signed_in.read("header").startswith("Authorization: Bearer ")
    assert signed_in.read("env.sh") == ""
    said = signed_in.vx("status", "--json")
    assert [str(key) in problem for problem in json.loads(said.stdout)["profiles"][0]["problems"]] == [True, True]


def test_zero_configuration_works(box: Box, google: Emulator) -> None:
    gcloud = box.home / ".config" / "gcloud"
    gcloud.mkdir(parents=True)
    google.authorized_user(gcloud / "application_default_credentials.json")
    del box.environ["VX_TOKEN_CONFIG"]
    box.environ["GOOGLE_CLOUD_PROJECT"] = "demo"
    said = json.loads(printed(box, "--format", "json"))
    assert said["profile"] == "default"
    assert said["base_url"].endswith("/v1/projects/demo/locations/global/endpoints/openapi")
    assert printed(box).strip() == said["token"] == box.read("token", "default")


def foreign(path: Path) -> None:
    os.chown(path, 12345, -1)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("folder", ["", "gemini"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.chmod(0o777), "can be written by others"),
        (lambda path: path.chmod(0o720), "can be written by others"),
        (linked, "symbolic link"),
        pytest.param(foreign, "belongs to another user", marks=as_root),
    ],
)
def test_no_token_is_taken_from_an_unsafe_folder(
    signed_in: Box, folder: str, spoil: Callable[[Path], None], said: str
) -> None:
    signed_in.vx("print")
    spoil(signed_in.runtime / folder)
    for words in (["print"], ["print", *LONG_WAY], ["print", "--format", "json"], ["env"], ["refresh"]):
        done = signed_in.vx(*words)
        assert (done.returncode, done.stdout) == (3, ""), words
        assert said in done.stderr
        assert "hint: " in done.stderr
    assert said in signed_in.vx("status").stdout


def beside_a_link(box: Box) -> None:
    """Let the way to the runtime folder lead through a link that belongs to another user."""
    (box.root / "way").symlink_to(".")
    os.chown(box.root / "way", 12345, -1, follow_symlinks=False)
    box.environ["VX_TOKEN_RUNTIME_DIR"] = str(box.root / "way" / "run")


def below_a_link(box: Box) -> None:
    """Let the way lead through a link of ours, to a folder that others may write."""
    box.root.chmod(0o777)
    (box.home / "way").symlink_to("..")
    box.environ["VX_TOKEN_RUNTIME_DIR"] = str(box.home / "way" / "run")


@pytest.mark.parametrize(
    ("spoil", "part", "said"),
    [
        (lambda box: box.root.chmod(0o777), "", "can be written by others"),
        (lambda box: box.root.chmod(0o720), "", "can be written by others"),
        (below_a_link, "", "can be written by others"),
        pytest.param(lambda box: os.chown(box.root, 12345, -1), "", "belongs to another user", marks=as_root),
        pytest.param(beside_a_link, "/way", "belongs to another user", marks=as_root),
    ],
)
@pytest.mark.parametrize("variable", ["VX_TOKEN_RUNTIME_DIR", "XDG_RUNTIME_DIR"])
def test_no_token_is_taken_from_below_a_folder_that_others_control(
    signed_in: Box, spoil: Callable[[Box], None], part: str, said: str, variable: str
) -> None:
    # The runtime folder itself is ours, but whoever owns the folder above it can put another one in its place.
    token = signed_in.vx("print").stdout
    spoil(signed_in)
    if variable == "XDG_RUNTIME_DIR":
        (signed_in.runtime / "vx-token").mkdir(mode=0o700)
        for name in ("gemini", "default"):
            (signed_in.runtime / name).rename(signed_in.runtime / "vx-token" / name)
        signed_in.environ["XDG_RUNTIME_DIR"] = signed_in.environ.pop("VX_TOKEN_RUNTIME_DIR")
    for words in (["print"], ["print", *LONG_WAY], ["env"], ["refresh"]):
        done = signed_in.vx(*words)
        assert (done.returncode, done.stdout) == (3, ""), words
        assert f"{signed_in.root}{part} {said}" in done.stderr
        assert "hint: " in done.stderr
    signed_in.root.chmod(0o1777)
    os.chown(signed_in.root, os.geteuid(), -1)
    (signed_in.root / "way").unlink(missing_ok=True)
    (signed_in.root / "way").symlink_to(".")
    assert signed_in.vx("print").stdout == token, "a sticky folder is safe, and so is a link of ours"


def test_an_unsafe_runtime_folder_is_refused(signed_in: Box) -> None:
    signed_in.runtime.mkdir(mode=0o777)
    signed_in.runtime.chmod(0o777)
    done = signed_in.vx("print")
    assert (done.returncode, done.stdout) == (3, "")
    assert "can be written by others" in done.stderr
    signed_in.runtime.rmdir()
    elsewhere = signed_in.root / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    signed_in.runtime.symlink_to(elsewhere)
    done = signed_in.vx("print")
    assert (done.returncode, done.stdout) == (3, "")
    assert "symbolic link" in done.stderr
    assert list(elsewhere.iterdir()) == []


def test_an_hour_of_nothing_but_failures_prints_no_token_that_has_ended(signed_in: Box, google: Emulator) -> None:
    expire(signed_in, google)
    google.fail("token", None, kind="html")
    for words in ((), LONG_WAY, ("--format", "json"), ("--format", "header")):
        done = signed_in.vx("print", *words)
        assert (done.returncode, done.stdout) == (5, "")


# --- options for one call --------------------------------------------------------------------------------------------


def test_an_option_is_for_one_call_and_leaves_the_files_of_others_alone(signed_in: Box, google: Emulator) -> None:
    ours = signed_in.vx("print").stdout.strip()
    before = {name: signed_in.read(name) for name in ("token", "env.sh", "state.json")}
    other = signed_in.root / "other.json"
    who = google.service_account(other)
    theirs = signed_in.vx("print", "--credentials", str(other)).stdout.strip()
    assert google.identity_of(theirs) == who
    assert signed_in.vx("print", "--credentials", str(other)).stdout.strip() == theirs
    assert signed_in.vx("print", "--base-url", "https://elsewhere.invalid/v1").returncode == 0
    assert {name: signed_in.read(name) for name in before} == before
    assert signed_in.vx("print").stdout.strip() == ours
    assert all(path.stat().st_mode & 0o077 == 0 for path in (signed_in.runtime / ".aside").rglob("*"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--model", "google/other"),
        ("--location", "us-central1"),
        ("--project", "other"),
        ("--endpoint", "endpoint-of-mine"),
        ("--base-url", "https://elsewhere.invalid/v1"),
        ("--credentials", "credentials.json"),  # the very file that is configured
    ],
)
def test_an_option_that_does_not_shape_the_token_costs_nothing(
    signed_in: Box, google: Emulator, option: str, value: str
) -> None:
    token = printed(signed_in)
    before = {name: signed_in.read(name) for name in ("token", "env.sh", "state.json", "peek")}
    assert printed(signed_in, option, value) == token
    assert json.loads(signed_in.vx("env", "--shell", "json", option, value).stdout)["OPENAI_API_KEY"] == token.strip()
    assert google.count("token") == 1
    assert {name: signed_in.read(name) for name in before} == before
    assert signed_in.vx("refresh", option, value).returncode == 0
    assert value not in signed_in.read("env.sh")  # the files are the profile's own
    assert printed(signed_in) == google.issued[-1].value + "\n" != token
    assert not (signed_in.runtime / ".aside").exists()


def test_the_options_of_a_command_without_a_configuration_cost_one_token(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    del box.environ["VX_TOKEN_CONFIG"]
    words = ("--credentials", str(box.key), "--project", "demo")
    token = printed(box, *words)
    assert printed(box, *words, "--location", "eu", "--model", "google/other") == token
    assert google.count("token") == 1


def test_the_host_of_the_base_url_shapes_tokens_of_distributed_cloud_alone(box: Box, google: Emulator) -> None:
    google.gdch(box.key)
    box.profile(url="https://one.invalid/v1")
    token = printed(box)
    assert printed(box, "--base-url", "https://one.invalid/v2", "--model", "m") == token
    assert google.count("token") == 1
    assert printed(box, "--base-url", "https://two.invalid/v1") == google.issued[-1].value + "\n" != token
    assert printed(box) == token
    box.config.write_text(box.config.read_text().replace("one.invalid", "two.invalid"))
    assert printed(box) == google.issued[-1].value + "\n" != token


@pytest.mark.parametrize("how", ["option", "configuration"])
def test_no_token_of_somebody_else_is_served_when_the_login_asked_for_fails(
    signed_in: Box, google: Emulator, how: str
) -> None:
    assert signed_in.vx("print").returncode == 0
    gone = str(signed_in.root / "no-such-key.json")
    if how == "configuration":
        signed_in.config.write_text("")
        signed_in.profile(url=google.base_url(), credentials=gone)
    done = signed_in.vx("print", *(["--credentials", gone] if how == "option" else []))
    assert (done.returncode, done.stdout) == (3, "")
    assert gone in done.stderr
    if how == "configuration":
        assert not signed_in.read("token")
