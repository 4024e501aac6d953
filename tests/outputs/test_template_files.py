"""The files of the setting `files`: their content, whose they are, and that a broken one harms no other."""

import json
import netrc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import NOON
from sandbox import Box, until
from vx_token.config.model import OutputFile, Profile
from vx_token.credentials.token import Token
from vx_token.outputs.files import Snapshot
from vx_token.outputs.template_files import TemplateFiles, record_file, render, written_files
from vx_token.tokens.model import Origin, State

TOKEN = Token("ya29.abc", NOON + 3600.9, NOON, "authorized_user", account="me@p", quota_project="billing")
STATE = State(TOKEN, Origin("s", "/key.json", "1:2:3"), attempts=1, tried_at=NOON)
PROFILE = Profile("gemini", "demo", model="google/gemini-2.5-flash")
LOCAL = ("vx-local-1", "http://127.0.0.1:8490/gemini/v1")
GOOGLE = "https://aiplatform.googleapis.com/v1/projects/demo/locations/global/endpoints/openapi"


def snapshot(
    *files: OutputFile, now: float = NOON, key: str = "", url: str = "", profile: Profile = PROFILE
) -> Snapshot:
    return Snapshot(replace(profile, files=files), STATE, now, ("", ""), key, url)


def text(form: str, **more: object) -> str:
    content = render(OutputFile("/k", form), snapshot(**more))  # type: ignore[arg-type]
    assert content is not None
    return content


@pytest.fixture
def ours(tmp_path: Path) -> TemplateFiles:
    return TemplateFiles(record_file(tmp_path / "state", "gemini"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "tool").mkdir()
    return tmp_path / "tool/key"


def test_each_format_is_what_its_readers_expect(tmp_path: Path) -> None:
    assert text("token") == "ya29.abc"
    assert text("header") == "Authorization: Bearer ya29.abc\nx-goog-user-project: billing\n"
    assert f"OPENAI_API_KEY=ya29.abc\nOPENAI_BASE_URL={GOOGLE}\n" in text("dotenv")
    assert json.loads(text("json")) == {
        "token": "ya29.abc",
        "expires_at": "2027-01-15T09:00:00Z",
        "profile": "gemini",
        "base_url": GOOGLE,
        "model": "google/gemini-2.5-flash",
    }
    (tmp_path / "netrc").write_text(text("netrc"))
    (tmp_path / "netrc").chmod(0o600)
    hosts = netrc.netrc(tmp_path / "netrc").hosts
    assert hosts == {"aiplatform.googleapis.com": ("oauth2accesstoken", "", "ya29.abc")}
    assert text("key={token} until {expires_at}\n") == "key=ya29.abc until 2027-01-15T09:00:00Z\n"


def test_in_gateway_mode_no_file_has_the_google_token() -> None:
    key, url = LOCAL
    for form in ("token", "header", "dotenv", "json", "netrc", "{token} {base_url} {expires_at}"):
        found = text(form, key=key, url=url)
        assert key in found
        assert "ya29" not in found
        assert "googleapis" not in found
    assert json.loads(text("json", key=key, url=url))["expires_at"] is None


def test_it_is_written_privately_and_only_its_record_remembers_it(ours: TemplateFiles, path: Path) -> None:
    assert ours.publish(snapshot(OutputFile(str(path)))) == {}
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("ya29.abc", 0o600)
    assert ours.problems(snapshot(OutputFile(str(path)))) == {}
    assert ours.record.stat().st_mode & 0o777 == 0o600
    assert "ya29" not in ours.record.read_text()
    assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_another_mode_is_another_file(ours: TemplateFiles, path: Path) -> None:
    ours.publish(snapshot(OutputFile(str(path))))
    wanted = snapshot(OutputFile(str(path), mode=0o640))
    assert list(ours.problems(wanted)) == [str(path)]
    assert ours.publish(wanted) == {}
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("now", [NOON + 4000, NOON])
def test_it_goes_when_the_token_expires_or_it_is_no_longer_configured(
    ours: TemplateFiles, path: Path, now: float
) -> None:
    file = OutputFile(str(path))
    ours.publish(snapshot(file))
    assert ours.publish(snapshot(*([file] if now > NOON else []), now=now)) == {}
    assert not path.exists()


def test_a_users_file_is_never_overwritten_unless_it_is_adopted(ours: TemplateFiles, path: Path) -> None:
    path.write_text("mine")
    file = OutputFile(str(path))
    for found in (ours.publish(snapshot(file)), ours.problems(snapshot(file))):
        assert "vx-token did not make it" in found[str(path)]
        assert "adopt = true" in found[str(path)]
    ours.publish(snapshot(file, now=NOON + 4000))
    ours.withdraw()
    assert path.read_text() == "mine"
    assert ours.publish(snapshot(replace(file, adopt=True))) == {}
    assert path.read_text() == "ya29.abc"


def test_a_file_that_was_changed_since_is_the_users(ours: TemplateFiles, path: Path) -> None:
    file = OutputFile(str(path))
    ours.publish(snapshot(file))
    path.write_text("ya29.abc and more")
    assert "was changed since" in ours.publish(snapshot(file))[str(path)]
    ours.withdraw()
    assert path.read_text() == "ya29.abc and more"


def linked(path: Path) -> None:
    (path.parent / "target").write_text("mine")
    path.symlink_to(path.parent / "target")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (linked, "a link or no regular file"),
    "a folder": (Path.mkdir, "a link or no regular file"),
    "no folder": (lambda path: path.parent.rmdir(), "does not exist"),
    "an unsafe folder": (lambda path: path.parent.chmod(0o777), "can be written by others; make it yours alone"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_one_is_told_and_harms_no_other(ours: TemplateFiles, tmp_path: Path, path: Path, how: str) -> None:
    action, reason = BROKEN[how]
    action(path)
    wanted = snapshot(OutputFile(str(path), adopt=True), OutputFile(str(tmp_path / "other")))
    for found in (ours.publish(wanted), ours.problems(wanted)):
        assert list(found) == [str(path)]
        assert reason in found[str(path)]
        assert "ya29" not in str(found)
    assert (tmp_path / "other").read_text() == "ya29.abc"
    assert not path.is_symlink() or (path.parent / "target").read_text() == "mine"


def test_a_template_whose_field_is_not_set_is_told(ours: TemplateFiles, path: Path) -> None:
    found = ours.publish(snapshot(OutputFile(str(path), "{token} {model}"), profile=replace(PROFILE, model="")))
    assert "model is not set, and its template needs it" in found[str(path)]
    assert not path.exists()


def test_what_a_killed_process_wrote_is_recognised(ours: TemplateFiles, path: Path) -> None:
    """The record is written before the file; the file may still have its former content."""
    file = OutputFile(str(path))
    ours.publish(snapshot(file))
    before = path.read_text()
    ours.publish(
        Snapshot(replace(PROFILE, files=(file,)), replace(STATE, token=replace(TOKEN, value="new")), NOON, ("", ""))
    )
    path.write_text(before)
    path.chmod(0o600)
    assert ours.publish(snapshot(file)) == {}
    assert written_files(ours.record.parents[1]) == [path]


def test_a_record_that_cannot_be_written_makes_no_file(ours: TemplateFiles, path: Path) -> None:
    ours.record.mkdir(parents=True)
    assert str(path) in ours.publish(snapshot(OutputFile(str(path))))
    assert not path.exists()


def test_the_daemon_writes_it_repairs_it_and_takes_it_away(signed_in: Box) -> None:
    plain, file = signed_in.config.read_text(), signed_in.home / "tool/key"
    file.parent.mkdir()
    new = f'{plain}\n[[profiles.gemini.files]]\npath = "~/tool/key"\n[[profiles.gemini.files]]\npath = "/nowhere/key"\n'
    with signed_in.daemon():
        until(lambda: signed_in.read("token"))
        signed_in.config.write_text(new)
        until(file.exists)
        until(lambda: file.read_text() == signed_in.read("token"))
        (problem,) = signed_in.status()["problems"]
        assert problem == "/nowhere/key is not written: the folder /nowhere does not exist"
        signed_in.vx("refresh")
        until(lambda: file.read_text() == signed_in.read("token"))
        signed_in.config.write_text(plain)
        until(lambda: not file.exists())


def test_a_token_of_another_login_gets_into_no_file(signed_in: Box) -> None:
    file = signed_in.home / "key"
    with signed_in.config.open("a") as config:
        config.write('\n[[profiles.gemini.files]]\npath = "~/key"\n')
    signed_in.vx("refresh")
    mine = file.read_text()
    other = signed_in.root / "other.json"
    other.write_bytes(signed_in.key.read_bytes())
    assert signed_in.vx("print", "--credentials", str(other)).returncode == 0
    assert file.read_text() == mine == signed_in.read("token")
