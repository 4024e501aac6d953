"""The daemon as a real process, across the lives of its tokens and everything that changes around it."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from sandbox import Box, allowance, until
from vx_token.daemon.keeper import FORCED_GAP, PATIENCE
from vx_token.emulator import Emulator

if TYPE_CHECKING:
    import forked

SINKS = ("token", "header", "env.sh", "env.fish")


def fresh(box: Box, google: Emulator, profile: str = "gemini") -> bool:
    """Whether all files of the profile hold the last token that was handed out."""
    value = google.issued[-1].value if google.issued else "none"
    return box.read("token", profile) == value and all(value in box.read(name, profile) for name in SINKS)


def lasting(box: Box, google: Emulator, profile: str = "gemini") -> bool:
    """Whether the token file holds one that nothing will replace during this test."""
    return box.read("token", profile) in {one.value for one in google.issued if one.expires_at > time.time() + 60}


def identity(box: Box, google: Emulator, profile: str = "gemini") -> str:
    """Return the identity of the token in the file."""
    token = box.read("token", profile)
    return google.identity_of(token) if token else ""


def swiftly(box: Box, change: Callable[[], str], now_is: Callable[[], str]) -> None:
    """The new identity's token is there within a second of the change, each of two times."""
    for _ in range(2):
        rested(box)
        allowed = allowance()
        wanted, started = change(), time.monotonic()
        until(lambda wanted=wanted: now_is() == wanted, 30, "the new identity")  # type: ignore[misc]
        assert time.monotonic() - started < allowed


def rested(box: Box) -> None:
    """Wait until a change is acted upon at once: no two forced refreshes are closer than half a second."""
    tried_at = json.loads(box.read("state.json"))["tried_at"]
    until(lambda: time.time() > tried_at + FORCED_GAP)


def test_a_daemon_replaces_the_token_before_each_end(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 2.0
    with signed_in.daemon() as process:
        seen = set()

        def three_lives() -> bool:
            if token := signed_in.read("token"):
                seen.add(token)
            return len(seen) >= 3

        until(three_lives, 60)
        google.lifetime = 3600.0  # or the end may come between a token's birth and its being written
        until(lambda: lasting(signed_in, google))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert signed_in.read("token") == google.issued[-1].value


def test_every_file_has_the_token_and_default_leads_there(signed_in: Box, google: Emulator) -> None:
    with signed_in.daemon():
        until(lambda: fresh(signed_in, google))
        folder = signed_in.runtime / "gemini"
        assert signed_in.read("header") == f"Authorization: Bearer {google.issued[-1].value}\n"
        assert signed_in.read("env.sh").startswith(
            "# vx-token env.sh 1\n# profile: gemini\n# status: fresh\n# expires: "
        )
        assert signed_in.read("env.sh").endswith("# end\n")
        until(lambda: signed_in.read("peek"), what="the last file, after which none has a name for the moment")
        assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"}
        assert {oct(path.stat().st_mode & 0o777) for path in (signed_in.runtime, folder)} == {"0o700"}
        assert (signed_in.runtime / "default").readlink() == Path("gemini")


def test_an_hours_token_costs_one_request_and_a_restart_none(signed_in: Box, google: Emulator) -> None:
    for _ in range(2):
        with signed_in.daemon():
            until(lambda: fresh(signed_in, google))
            assert signed_in.vx("print").stdout.strip() == google.issued[-1].value
    assert google.count("token") == 1


def test_one_failing_profile_harms_no_other(box: Box, google: Emulator) -> None:
    google.lifetime = 2.0
    box.config.write_text('default_profile = "good"\n')
    for name in ("good", "better", "revoked", "missing", "hanging"):
        box.profile(name, url=google.base_url(), credentials=str(box.root / f"{name}.json"))
    google.service_account(box.root / "good.json")
    google.authorized_user(box.root / "better.json")
    google.revoke_identity(google.authorized_user(box.root / "revoked.json"))
    hang(box, google, box.root / "hanging.json")
    with box.daemon():
        for name in ("good", "better"):
            first = until(lambda name=name: box.read("token", name))  # type: ignore[misc]
            until(lambda name=name, first=first: box.read("token", name) not in {"", first})  # type: ignore[misc]
        until(lambda: "# status: login" in box.read("env.sh", "revoked"))
        until(lambda: "# status: login" in box.read("env.sh", "missing"))
        google.lifetime = 3600.0  # two seconds may be over while `status` starts
        until(lambda: all(lasting(box, google, name) for name in ("good", "better")))
        rows = {row["profile"]: row["status"] for row in json.loads(box.vx("status", "--json").stdout)["profiles"]}
    assert rows == {"good": "fresh", "better": "fresh", "revoked": "login", "missing": "login", "hanging": "unknown"}
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(box.root) in " ".join(p.info["cmdline"] or [])]


def hang(box: Box, google: Emulator, path: Path) -> None:
    """Credentials that ask a program which never answers."""
    google.external_account(path, box.root / "subject")
    program = box.root / "hang.sh"
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    program.chmod(0o700)
    source = {"executable": {"command": str(program), "timeout_millis": 60000}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"credential_source": source}))
    box.environ["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"] = "1"


def by_rename(box: Box, google: Emulator) -> str:
    return google.service_account(box.key)  # the emulator replaces by rename, as gcloud does


def in_place(box: Box, google: Emulator) -> str:
    name = google.service_account(box.root / "new.json")
    box.key.write_text((box.root / "new.json").read_text())
    return name


def by_a_link(box: Box, google: Emulator) -> str:
    name = google.service_account(box.root / f"{time.monotonic_ns()}.json")
    newest = max(box.root.glob("[0-9]*.json"), key=lambda path: int(path.stem))
    link = box.root / "link"
    link.symlink_to(newest.name)
    link.replace(box.key)
    return name


@pytest.mark.parametrize("change", [by_rename, in_place, by_a_link])
def test_another_login_shows_within_a_second(
    signed_in: Box, google: Emulator, change: Callable[[Box, Emulator], str]
) -> None:
    with signed_in.daemon():
        until(lambda: fresh(signed_in, google))
        swiftly(signed_in, lambda: change(signed_in, google), lambda: identity(signed_in, google))
        until(lambda: fresh(signed_in, google), what="all files")


def test_the_target_of_a_link_may_change_too(signed_in: Box, google: Emulator) -> None:
    folder = signed_in.root / "far"
    folder.mkdir()
    shutil.move(signed_in.key, folder / "key.json")
    signed_in.key.symlink_to("far/key.json")
    with signed_in.daemon():
        until(lambda: fresh(signed_in, google))
        swiftly(signed_in, lambda: google.service_account(folder / "key.json"), lambda: identity(signed_in, google))


def test_the_file_that_the_environment_names_is_watched(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    box.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(box.key)
    box.profile(url=google.base_url(), credentials=None)
    with box.daemon():
        until(lambda: fresh(box, google))
        swiftly(box, lambda: google.authorized_user(box.key), lambda: identity(box, google))


def test_a_first_login_shows_within_a_second_even_in_folders_that_were_not_there(box: Box, google: Emulator) -> None:
    box.profile(url=google.base_url(), credentials=None)
    gcloud = box.home / ".config" / "gcloud"

    def log_in() -> str:
        shutil.rmtree(box.home / ".config", ignore_errors=True)
        gcloud.mkdir(parents=True)
        return google.authorized_user(gcloud / "application_default_credentials.json")

    with box.daemon():
        until(lambda: "no Google login was found" in box.log)
        swiftly(box, log_in, lambda: identity(box, google))


def test_a_new_login_is_not_kept_waiting_by_a_try_that_hangs(signed_in: Box, google: Emulator) -> None:
    signed_in.executed = True  # only a child can be ended
    with signed_in.daemon():
        until(lambda: fresh(signed_in, google))
        google.fail("token", None, kind="hang")
        google.service_account(signed_in.key)
        until(lambda: google.count("token") >= 2)
        google.heal()
        wanted, started = google.service_account(signed_in.key), time.monotonic()
        until(lambda: identity(signed_in, google) == wanted, 60)
        assert time.monotonic() - started < 8  # the try itself would have gone on for 30


@pytest.mark.parametrize("beside", [False, True])
def test_a_profile_that_gets_the_name_default_has_files_of_its_own(box: Box, google: Emulator, beside: bool) -> None:
    first, second = (google.service_account(box.root / name) for name in ("a.json", "b.json"))
    keys = {name: {"credentials": f"{box.root}/{name}.json", "url": google.base_url()} for name in ("a", "b")}
    box.config.write_text('default_profile = "gemini"\n')
    box.profile(**keys["a"])
    with box.daemon() if beside else contextlib.nullcontext():
        until(lambda: google.identity_of(box.vx("print").stdout.strip()) == first)
        assert (box.runtime / "default").is_symlink()
        box.profile("default", **keys["b"])

        def printed(*options: str) -> str:
            return google.identity_of(box.vx("print", *options).stdout.strip())

        if beside:  # or `print` may fetch before the daemon has seen the profile
            until(lambda: identity(box, google, "default") == second)
        until(lambda: printed("--profile", "default") == second)
        assert not (box.runtime / "default").is_symlink()
        for _ in range(2):  # the long way, and by the file for the short way
            assert (printed("--profile", "gemini"), printed(), printed("--profile", "default")) == (
                first,
                first,
                second,
            )
        assert "# profile: gemini" in box.read("env.sh", "gemini")
        assert "# profile: default" in box.read("env.sh", "default")
    assert google.count("token") == 2


def test_a_folder_that_is_not_safe_stops_its_keeper_only_until_it_is(signed_in: Box, google: Emulator) -> None:
    folder = signed_in.runtime / "gemini"
    with signed_in.daemon() as process:
        until(lambda: fresh(signed_in, google))
        folder.chmod(0o777)
        process.send_signal(signal.SIGHUP)
        until(lambda: f"{folder} can be written by others" in signed_in.log)
        folder.chmod(0o700)
        process.send_signal(signal.SIGHUP)
        until(lambda: google.count("token") == 2)
        until(lambda: fresh(signed_in, google))
    assert "Traceback" not in signed_in.log


def test_a_deleted_credential_file_ends_no_live_token(signed_in: Box, google: Emulator) -> None:
    with signed_in.daemon():
        until(lambda: fresh(signed_in, google))
        token = signed_in.read("token")
        signed_in.key.unlink()
        until(lambda: "# status: login" in signed_in.read("env.sh"))
        assert signed_in.read("token") == token
        assert f"OPENAI_API_KEY='{token}'" in signed_in.read("env.sh")
        assert "does not exist" in signed_in.status()["error"]
        swiftly(signed_in, lambda: google.service_account(signed_in.key), lambda: identity(signed_in, google))
        until(lambda: "# status: fresh" in signed_in.read("env.sh"))


def test_a_login_that_is_refused_is_told_and_a_new_one_heals_it(box: Box, google: Emulator) -> None:
    google.revoke_identity(google.authorized_user(box.key), reauth=True)
    box.profile(url=google.base_url())
    with box.daemon():
        until(lambda: "# status: login" in box.read("env.sh"))
        assert "export" not in box.read("env.sh")
        assert "\n# notice: Google wants you to log in again" in box.read("env.sh")
        assert "run: gcloud auth application-default login\n" in box.read("env.sh")
        assert box.read("token") == ""
        swiftly(box, lambda: google.authorized_user(box.key), lambda: identity(box, google))
        until(lambda: "# status: fresh" in box.read("env.sh"))
    assert "log in again" in box.log


def test_an_ended_token_is_withdrawn_and_comes_back_by_itself(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 8.0
    with signed_in.daemon() as process:
        until(lambda: fresh(signed_in, google))
        end = google.issued[-1].expires_at
        google.fail("token", None, kind="html")
        process.send_signal(signal.SIGHUP)  # nearly the whole life is left for the failing tries
        until(lambda: "# status: retrying" in signed_in.read("env.sh"))
        until(lambda: "# status: expired\n# expires: 0\n" in signed_in.read("env.sh"), end + 10 - time.time())
        assert [signed_in.read(name) for name in ("token", "header")] == ["", ""]
        assert "export" not in signed_in.read("env.sh")
        google.heal()
        google.lifetime = 3600.0
        until(lambda: fresh(signed_in, google), 30)  # the fifth pause, which may have begun, is of up to 16


def test_a_server_that_fails_is_not_hammered(signed_in: Box, google: Emulator) -> None:
    google.fail("token", None, kind="html")
    with signed_in.daemon():
        until(lambda: google.count("token") >= 4, 90)
    came = [seen.at for seen in google.requests if seen.route == "token"]
    gaps = [after - before for before, after in itertools.pairwise(came)]
    # Each pause is twice the one before it, less a quarter at the most; the first is never less than a second.
    assert all(gap >= least for gap, least in zip(gaps, (1.0, 1.5, 3.0), strict=False)), gaps


def config_error(box: Box) -> tuple[int, str]:
    """Exit status of `status`, which is of the file as it is, and what it says, which may still be the daemon's."""
    done = box.vx("status", "--json")
    text: str = json.loads(done.stdout)["config_error"]
    assert done.returncode in (0, 3)
    assert text or done.returncode == 0
    return done.returncode, text


def test_a_changed_configuration_is_followed(signed_in: Box, google: Emulator) -> None:
    with signed_in.daemon():
        until(lambda: fresh(signed_in, google))
        user = google.authorized_user(signed_in.root / "user.json")
        signed_in.config.write_text('default_profile = "gemini"\n' + signed_in.config.read_text())
        signed_in.profile("second", url=google.base_url(), credentials="user.json")
        until(lambda: identity(signed_in, google, "second") == user)
        swiftly(
            signed_in,
            lambda: google.authorized_user(signed_in.root / "user.json"),
            lambda: identity(signed_in, google, "second"),
        )
        text = signed_in.config.read_text()
        signed_in.config.write_text(text[: text.index('[profiles."second"]')])
        until(lambda: not (signed_in.runtime / "second").exists(), what="the end of a profile's files")
        assert signed_in.read("token")
        signed_in.config.write_text(signed_in.config.read_text().replace(str(signed_in.key), "user.json"))
        until(lambda: identity(signed_in, google).startswith("user-"), what="the profile's new credentials")


def test_a_broken_configuration_changes_nothing_until_it_is_repaired(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 3.0
    good = signed_in.config.read_text()
    with signed_in.daemon() as process:
        until(lambda: fresh(signed_in, google))
        for broken in (good + "colour = 1\n", "[profiles", "", good.replace("project", "projekt")):
            signed_in.config.write_text(broken or "\0")
            status, text = config_error(signed_in)
            assert (status, bool(text)) == (3, True)
            until(lambda: json.loads((signed_in.runtime / ".daemon.json").read_text())["config_error"])
        before = signed_in.read("token")
        until(lambda: signed_in.read("token") not in {"", before}, what="the next token all the same")
        signed_in.config.write_text(good)
        until(lambda: config_error(signed_in) == (0, ""))
        assert process.poll() is None
    assert "the last good configuration stays in force" in signed_in.log


def test_a_configuration_file_that_vanishes_changes_nothing(signed_in: Box, google: Emulator) -> None:
    with signed_in.daemon() as process:
        until(lambda: fresh(signed_in, google))
        signed_in.config.rename(signed_in.root / "away")
        status, text = config_error(signed_in)
        assert (status, bool(text)) == (3, True)
        until(lambda: json.loads((signed_in.runtime / ".daemon.json").read_text())["config_error"])
        (signed_in.root / "away").rename(signed_in.config)
        until(lambda: config_error(signed_in) == (0, ""))
        assert process.poll() is None
        assert fresh(signed_in, google)


def test_hup_reads_anew_and_refreshes(signed_in: Box, google: Emulator) -> None:
    with signed_in.daemon() as process:
        until(lambda: fresh(signed_in, google))
        for tokens in (2, 3):
            rested(signed_in)
            process.send_signal(signal.SIGHUP)
            until(lambda tokens=tokens: signed_in.log.count("the configuration is unchanged") == tokens - 1)  # type: ignore[misc]
            until(lambda tokens=tokens: google.count("token") == tokens)  # type: ignore[misc]
            until(lambda: fresh(signed_in, google))
        signed_in.config.write_text("[profiles")
        process.send_signal(signal.SIGHUP)
        until(lambda: google.count("token") == 4, what="a refresh by the last good configuration")


def test_four_hups_a_second_never_starve_the_refresh(signed_in: Box, google: Emulator) -> None:
    """The token endpoint takes longer than a try may take before a forced one ends it."""
    with signed_in.daemon() as process:
        until(lambda: fresh(signed_in, google))
        google.fail("token", None, kind="slow", delay=PATIENCE + 0.5)
        before, end = len(google.issued), time.monotonic() + 8
        while time.monotonic() < end and len(google.issued) == before:
            process.send_signal(signal.SIGHUP)
            time.sleep(0.25)  # the rate that is promised, not a wait
        process.send_signal(signal.SIGHUP)
        until(lambda: fresh(signed_in, google) and len(google.issued) > before, 5, "a refresh amid the signals")
        seen = len(google.issued)
        until(lambda: len(google.issued) > seen, 10, "the refresh that the last signal asked for")
        until(lambda: fresh(signed_in, google))
    assert signed_in.log.count("fresh token of") >= 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(signed_in: Box, google: Emulator, number: signal.Signals) -> None:
    with signed_in.daemon() as process:
        until(lambda: fresh(signed_in, google))
        process.send_signal(number)
        assert process.wait(30) == 0
    assert fresh(signed_in, google)
    assert not (signed_in.runtime / ".daemon.json").exists()
    assert signed_in.log.splitlines()[-1].endswith("stopped")
    assert [path.name for path in (signed_in.runtime / "gemini").iterdir() if path.name.startswith(".")] == []


def test_it_ends_at_once_while_google_hangs(signed_in: Box, google: Emulator) -> None:
    signed_in.executed = True

    def ended(process: "subprocess.Popen[str] | forked.Command") -> float:
        """The seconds that its end takes."""
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        return time.monotonic() - started

    google.fail("token", None, kind="hang")
    with signed_in.daemon() as process:
        until(lambda: google.count("token"))
        children = psutil.Process(process.pid).children()
        assert children
        assert ended(process) < 3
        until(lambda: not any(child.is_running() for child in children), 2, "the child's end")


def test_a_umask_that_takes_its_own_rights_harms_nothing(
    box: Box, google: Emulator, require: Callable[[str], str]
) -> None:
    google.service_account(box.key)
    box.profile(url=google.base_url())
    box.environ["VX_TOKEN_RUNTIME_DIR"] = str(box.root / "a" / "b" / "run")
    lock = box.root / "a" / "b" / "run" / ".daemon.lock"
    # Root reads everything unless that right is taken away.
    drop = [require("setpriv"), "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    argv = ["sh", "-c", 'umask 777; exec "$@"', "sh", *drop, *box.command("run")]
    for damaged in (False, True):
        if damaged:
            lock.chmod(0)  # as an older version left it
        with subprocess.Popen(argv, env=box.environ, stderr=subprocess.PIPE, text=True) as process:
            try:
                until(lambda: process.poll() is not None or (lock.parent / ".daemon.json").exists(), 30)
                assert process.poll() is None, process.stderr and process.stderr.read()
                until((lock.parent / "gemini" / "token").exists, 30)
                assert lock.stat().st_mode & 0o777 == 0o600
            finally:
                process.terminate()


LIMITS = {
    "open files": ("-n 6", ("run", "doctor", "refresh", "print --min-ttl 5m", "env", "exec --gateway true")),
    "memory": ("-v 200000", ("run", "run --gateway", "doctor", "refresh", "env")),
    "too little memory for google-auth": ("-v 50000", ("refresh",)),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_of_the_system_is_told_in_a_sentence(signed_in: Box, limit: str) -> None:
    number, commands = LIMITS[limit]
    for command in commands:
        argv = ["bash", "-c", f'ulimit {number} && exec "$@"', "bash", *signed_in.command(*command.split())]
        with subprocess.Popen(
            argv, env=signed_in.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            if command.startswith("run"):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(4)  # what it says until then
                process.terminate()
            said = process.communicate(timeout=60)[1]
        assert "internal error" not in said, (command, said)
        assert "Traceback" not in said, (command, said)
        assert process.returncode in ((5,) if "-v 50000" in number else (0, 1, 5)), (command, said)
        if process.returncode == 5:
            assert said.splitlines()[-2].startswith("vx-token: "), (command, said)
            assert said.splitlines()[-1].startswith("hint: "), (command, said)


def test_a_second_daemon_ends_and_says_why(signed_in: Box, google: Emulator) -> None:
    with signed_in.daemon() as process:
        until(lambda: fresh(signed_in, google))
        second = signed_in.vx("run")
        assert second.returncode == 5
        assert second.stderr.splitlines()[-2] == f"vx-token: another vx-token daemon serves {signed_in.runtime}"
        assert second.stderr.splitlines()[-1].startswith("hint: ")
        assert process.poll() is None
        assert fresh(signed_in, google)


def test_refresh_beside_a_daemon_is_taken_up(signed_in: Box, google: Emulator) -> None:
    with signed_in.daemon():
        until(lambda: fresh(signed_in, google))
        assert signed_in.vx("refresh").returncode == 0
        assert fresh(signed_in, google)
        time.sleep(1)  # the time in which another request would come
        assert google.count("token") == 2


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


SPOILERS: dict[str, Callable[[Path], Any]] = {
    "deleted": lambda path: path.unlink(),
    "truncated": lambda path: os.truncate(path, 3),
    "emptied": lambda path: os.truncate(path, 0),
    "overwritten": lambda path: path.write_text("export OPENAI_API_KEY='wrong'\n"),
    "replaced by a link": _link,
    "renamed": lambda path: path.rename(path.with_name("elsewhere")),
}


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_a_file_that_was_spoiled_is_repaired(signed_in: Box, google: Emulator, spoiler: str) -> None:
    with signed_in.daemon():
        until(lambda: fresh(signed_in, google))
        for name in SINKS:
            path = signed_in.runtime / "gemini" / name
            SPOILERS[spoiler](path)
            until(lambda path=path: not path.is_symlink() and fresh(signed_in, google), 35, name)  # type: ignore[misc]
            assert path.stat().st_mode & 0o777 == 0o600
    assert google.count("token") == 1
    assert "internal" not in signed_in.log


def test_the_whole_folder_comes_back(signed_in: Box, google: Emulator) -> None:
    with signed_in.daemon() as process:
        for folder in (signed_in.runtime / "gemini", signed_in.runtime):
            until(lambda: fresh(signed_in, google))
            folder.rename(signed_in.root / "gone")
            shutil.rmtree(signed_in.root / "gone")
            until(lambda folder=folder: folder.exists() and fresh(signed_in, google), 35, "the files")  # type: ignore[misc]
        assert process.poll() is None
        until(lambda: (json.loads(signed_in.vx("status", "--json").stdout)["daemon"] or {}).get("pid") == process.pid)
        other = signed_in.vx("run")
        assert (other.returncode, "another vx-token daemon" in other.stderr) == (5, True)
        assert (signed_in.runtime / "default").resolve() == signed_in.runtime / "gemini"
        assert signed_in.vx("print").stdout.strip() == google.issued[-1].value


def test_a_folder_that_is_removed_as_soon_as_it_is_there_comes_back(signed_in: Box, google: Emulator) -> None:
    for _ in range(4):  # because the removal must fall between the first files and the watch on their folder
        with signed_in.daemon():
            until(lambda: fresh(signed_in, google))
            shutil.rmtree(signed_in.runtime / "gemini")
            until(lambda: fresh(signed_in, google), 10)


def takes_its_place(file: Path, folder: Path) -> bool:
    """Rename `file` to `folder`; False when the daemon has made that folder again meanwhile, which is removed."""
    try:
        file.rename(folder)
    except IsADirectoryError:
        shutil.rmtree(folder)
        return False
    return True


def test_a_file_in_the_runtime_folders_place_costs_the_claim_only_while_it_is_there(
    signed_in: Box, google: Emulator
) -> None:
    def running() -> int | None:
        pid: int | None = (json.loads(signed_in.vx("status", "--json").stdout)["daemon"] or {}).get("pid")
        return pid

    with signed_in.daemon() as process:
        until(lambda: fresh(signed_in, google))
        obstacle = signed_in.root / "obstacle"
        obstacle.write_text("in the way")
        signed_in.runtime.rename(signed_in.root / "away")
        until(lambda: takes_its_place(obstacle, signed_in.runtime), what="the obstacle is in place")
        until(lambda: f"{signed_in.runtime} is not a folder" in signed_in.log, 35, "the loss is noticed")
        shutil.rmtree(signed_in.root / "away")
        signed_in.runtime.unlink()
        until(lambda: (signed_in.runtime / ".daemon.json").exists() and fresh(signed_in, google), 15, "its files")
        assert process.poll() is None
        assert running() == process.pid
        other = signed_in.vx("run")
        assert (other.returncode, "another vx-token daemon" in other.stderr) == (5, True)
        changed = signed_in.config.read_text() + "# seen again\n"
        signed_in.config.write_text(changed)
        until(lambda: f"{signed_in.config} has changed" in signed_in.log)
    assert not (signed_in.runtime / ".daemon.json").exists()


def test_without_inotify_it_looks_by_itself_and_says_so_once(
    signed_in: Box, google: Emulator, require: Callable[[str], str]
) -> None:
    """In a user namespace of its own the limit is the test's to set; Debian's is 128 for all programs of a user."""
    script = """
    echo 0 > /proc/sys/user/max_inotify_instances
    "$@" run &
    daemon=$!
    while read -r instances; do echo "$instances" > /proc/sys/user/max_inotify_instances; done
    kill "$daemon"
    wait "$daemon"
    """
    own = [require("unshare"), "--user", "--map-root-user"]
    if subprocess.run([*own, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine refuses user namespaces")
    argv = [*own, "sh", "-c", script, "sh", *signed_in.command()]
    with (
        (signed_in.root / "daemon.log").open("a") as log,
        subprocess.Popen(argv, env=signed_in.environ, stdin=subprocess.PIPE, stderr=log, text=True) as shell,
    ):
        assert shell.stdin is not None
        try:
            until(lambda: fresh(signed_in, google), 30)
            rested(signed_in)
            user = google.authorized_user(signed_in.key)
            until(lambda: identity(signed_in, google) == user, 10, "the new identity")
            (signed_in.runtime / "gemini" / "token").unlink()
            until(lambda: fresh(signed_in, google), 10, "the file")
            shell.stdin.write("100\n")
            shell.stdin.flush()
            until(lambda: "file events from the kernel work again" in signed_in.log, 10)
        finally:
            shell.stdin.close()
            assert shell.wait(30) == 0
    assert signed_in.log.count("polling every 2 s") == 1
    assert "internal error" not in signed_in.log


def test_a_spoiled_state_is_made_anew(signed_in: Box, google: Emulator) -> None:
    with signed_in.daemon():
        for junk in ("", "{", "[]"):
            until(lambda: fresh(signed_in, google))
            (signed_in.runtime / "gemini" / "state.json").write_text(junk)
            until(lambda: '"version": 1' in signed_in.read("state.json") and fresh(signed_in, google), 10)


def test_it_starts_only_with_a_right_configuration_and_a_safe_folder(signed_in: Box) -> None:
    signed_in.runtime.mkdir()
    signed_in.runtime.chmod(0o777)
    unsafe = signed_in.vx("run")
    assert unsafe.returncode == 3
    assert "can be written by others" in unsafe.stderr
    signed_in.config.write_text("[profiles")
    broken = signed_in.vx("run")
    assert broken.returncode == 3
    assert "is not valid TOML" in broken.stderr


def test_the_log_is_one_line_an_event_in_each_form(signed_in: Box, google: Emulator) -> None:
    said: dict[str, list[str]] = {}
    for form in ("text", "systemd", "json"):
        with signed_in.start("run", "--log-format", form, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            said[form] = [process.stderr.readline(), process.stderr.readline()]
            process.send_signal(signal.SIGTERM)
            said[form] += process.communicate(timeout=30)[1].splitlines()
    assert all(json.loads(line)["level"] == "info" for line in said["json"])
    assert all(line.startswith("<6>") for line in said["systemd"])
    assert {len(lines) for lines in said.values()} == {3}
    assert json.loads(said["json"][-1])["message"] == "stopped"
    assert google.issued[-1].value not in str(said)
    signed_in.config.write_text("[profiles")
    failed = {form: signed_in.vx("run", "--log-format", form) for form in said}
    assert {done.returncode for done in failed.values()} == {3}
    wrong = json.loads(failed["json"].stderr)
    assert (wrong["level"], "is not valid TOML" in wrong["message"]) == ("error", True)
    assert failed["systemd"].stderr == f"<3>{wrong['message']}\n"
    assert failed["text"].stderr.startswith("vx-token: ")


def test_a_log_that_nobody_reads_stops_nothing(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 2.0
    with signed_in.start("run", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.close()
        until(lambda: len(google.issued) >= 3, 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
