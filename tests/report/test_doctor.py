"""Doctor: each known trouble is found and told with what to do, and a healthy machine gets no complaint."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox import Box, until
from upstreams import tls_contexts, upstream
from vx_token.config.load import load_config
from vx_token.config.model import Config, Profile
from vx_token.credentials import credential_file, google_worker
from vx_token.emulator import Emulator, running
from vx_token.errors import ConfigError
from vx_token.gateway import address
from vx_token.install import shell_startup
from vx_token.install.service import ServiceStatus
from vx_token.outputs.publisher import Publisher
from vx_token.report import doctor, doctor_live, doctor_token
from vx_token.report.doctor_facts import Check, DoctorFacts, gather, llm_files
from vx_token.system.clock import SystemClock
from vx_token.tokens.store import Store
from vx_token.vertex import diagnosis, request

API_KEY = "AIzaSyA-example-of-the-form-of-a-key-x1"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai/"


def examined(box: Box, *words: str, status: int | None = None) -> dict[str, Any]:
    """`doctor --json`."""
    done = box.vx("doctor", "--json", *words)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["ok"] else 1)
    assert status is None or done.returncode == status, done.stdout
    return found


def checks(box: Box, name: str, *words: str) -> list[tuple[str, str, str]]:
    found = examined(box, *words)["checks"]
    with_hints([Check(**check) for check in found])
    return [(check["ok"], check["detail"], check["hint"]) for check in found if check["name"] == name]


def gathered(box: Box) -> DoctorFacts:
    """What doctor sees in the box, in this process."""
    try:
        settings: Config | ConfigError = load_config(box.environ)
    except ConfigError as error:
        settings = error
    store, clock = Store(box.runtime), SystemClock()
    publisher = None
    if isinstance(settings, Config):
        publisher = Publisher(store, clock, settings, address.lookup(settings, box.environ))
    return gather(settings, store, clock, publisher, box.environ, box.root, None)


def named(facts: DoctorFacts, name: str) -> list[Check]:
    return [check for check in with_hints(doctor.examine(facts)) if check.name == name]


def with_hints(checks: list[Check]) -> list[Check]:
    """The checks; whatever is not well must say what to do, here in all that this file does to a machine."""
    assert [check for check in checks if check.ok != "ok" and not check.hint] == []
    return checks


HEALTHY = """\
ok    config              ROOT/config.toml; profiles: gemini
ok    credentials gemini  service_account, ROOT/credentials.json, written AGO ago
ok    url gemini          URL
ok    runtime             ROOT/run
ok    token gemini        59m left, account-1@demo.iam.gserviceaccount.com
ok    service             running, process PID, version VERSION
ok    hook                loaded in this shell, by ROOT/home/.bashrc line 1
ok    variables           consistent
ok    live token          Google accepts it, with the scope cloud-platform
ok    live clock          correct
ok    live completion     google/gemini-2.5-flash answered in 0.0 s

0 failures, 0 warnings
"""


def test_a_healthy_machine_gets_no_complaint(signed_in: Box, google: Emulator) -> None:
    (signed_in.home / ".bashrc").write_text('eval "$(vx-token hook bash)"\n')
    with signed_in.daemon():
        until(lambda: signed_in.read("token"))
        signed_in.environ |= json.loads(signed_in.vx("env", "--shell", "json").stdout)
        signed_in.environ["VX_TOKEN_STATUS"] = "gemini 59m"
        done = signed_in.vx("doctor", "--live")
    token = signed_in.read("token")
    text = done.stdout.replace(str(signed_in.root), "ROOT").replace(google.base_url(), "URL")
    text = re.sub(r"process \d+", "process PID", re.sub(r"written \w+ ago", "written AGO ago", text))
    text = re.sub(r"version [\w.]+", "version VERSION", re.sub(r"in \d\.\d s", "in 0.0 s", text))
    account = re.search(r"left, (\S+)$", text, re.MULTILINE)
    assert account
    assert text.replace(account[1], "account-1@demo.iam.gserviceaccount.com") == HEALTHY
    assert (done.returncode, done.stderr) == (0, "")
    assert token not in done.stdout


def test_without_live_it_asks_nobody(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    before = len(google.requests)
    assert examined(signed_in, status=0)["schema"] == 1
    assert len(google.requests) == before


def test_it_carries_no_web_server(box: Box) -> None:
    modules = (
        "cli.setup",
        "cli.doctor",
        "report.doctor",
        "report.doctor_live",
        "install.setup",
        "install.first_request",
    )
    code = f"import sys, {', '.join(f'vx_token.{name}' for name in modules)}; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=box.environ, capture_output=True, text=True, check=False)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("words", [["doctor"], ["service", "status"]], ids=" ".join)
def test_a_working_folder_that_was_removed_stops_no_look(signed_in: Box, words: list[str]) -> None:
    gone = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    argv = ["sh", "-c", gone, "sh", *signed_in.command(*words)]
    done = subprocess.run(argv, env=signed_in.environ, cwd=signed_in.root, capture_output=True, text=True, check=False)
    assert "internal error" not in done.stderr
    assert done.stdout


# --- configuration, credentials, place ---------------------------------------------------------------------------


def test_a_machine_without_anything_is_sent_to_setup(box: Box) -> None:
    del box.environ["VX_TOKEN_CONFIG"]
    assert checks(box, "config") == [
        ("fail", "no Google Cloud project is set", 'run "vx-token setup", or set GOOGLE_CLOUD_PROJECT')
    ]


def test_a_broken_configuration_is_told_and_the_rest_is_still_looked_at(signed_in: Box) -> None:
    signed_in.config.write_text("[profiles.gemini]\nprojekt = 1\n")
    report = examined(signed_in, status=1)["checks"]
    assert report[0]["detail"].endswith("profiles.gemini.projekt is not a known key")
    assert {"runtime", "service", "hook", "variables"} <= {check["name"] for check in report}


def test_a_missing_login_names_the_command(box: Box) -> None:
    box.profile(credentials=None)
    assert checks(box, "credentials gemini") == [
        ("fail", "no Google login was found", "run: gcloud auth application-default login")
    ]


def test_a_credential_file_is_looked_at_closely(signed_in: Box) -> None:
    signed_in.key.chmod(0o644)
    [readable] = named(gathered(signed_in), "credentials gemini")
    assert (readable.ok, readable.hint) == ("warn", f"run: chmod 600 {signed_in.key}")
    signed_in.key.chmod(0o600)

    old = time.time() - 100 * 86400
    os.utime(signed_in.key, (old, old))
    [aged] = named(gathered(signed_in), "credentials gemini")
    assert (aged.ok, aged.hint) == ("warn", "replace this key, because it is more than 90 days old")
    assert "written 100 days ago" in aged.detail

    for content, wrong in (("{", "is not JSON"), ('{"type": "x"}', "has an unknown type: 'x'")):
        signed_in.key.write_text(content)
        [broken] = named(gathered(signed_in), "credentials gemini")
        assert (broken.ok, broken.detail) == ("fail", f"{signed_in.key} {wrong}")


def test_every_kind_of_credential_that_can_be_used_is_known() -> None:
    assert {*credential_file.KINDS, "metadata"} == set(google_worker._BUILD)


@pytest.mark.parametrize("kind", ["authorized_user", "service_account", "impersonated_service_account"])
def test_what_a_credential_file_says_holds_no_secret(google: Emulator, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "credentials.json"
    google.credentials(kind, path)
    facts = credential_file.describe(path)
    assert (facts.kind, facts.problem, facts.token_uri) == (kind, "", google.token_uri)
    secrets = re.findall(r'"(?:private_key|refresh_token|client_secret)": "([^"]+)"', path.read_text())
    assert secrets
    assert not any(secret in repr(facts) for secret in secrets)


def test_a_login_of_another_universe_fails_at_googles_own_hosts(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    box.key.write_text(json.dumps(json.loads(box.key.read_text()) | {"universe_domain": "apis.example"}))
    box.profile(url="https://u-x1-aiplatform.googleapis.com/v1/projects/p/locations/u-x1/endpoints/openapi")
    [check] = named(gathered(box), "url gemini")
    assert (check.ok, "https://u-x1-aiplatform.apis.example/v1/" in check.hint) == ("fail", True)


def test_an_account_of_gcloud_is_named_and_its_database_is_private(box: Box, google: Emulator) -> None:
    folder = box.home / ".config/gcloud"
    name = google.gcloud_login(folder)
    box.profile(url=google.base_url(), credentials=None, account=name)
    [check] = named(gathered(box), "credentials gemini")
    assert (check.ok, check.detail) == ("ok", f"authorized_user, gcloud's login of {name}")
    (folder / "credentials.db").chmod(0o644)
    [check] = named(gathered(box), "credentials gemini")
    assert (check.ok, check.fix) == ("warn", ("chmod", "600", f"{folder}/credentials.db"))
    (folder / "credentials.db").unlink()
    [check] = named(gathered(box), "credentials gemini")
    assert (check.ok, check.hint) == ("fail", f"run: gcloud auth login {name}")


def test_a_url_that_cannot_work_fails_and_an_unknown_location_is_a_warning(signed_in: Box) -> None:
    signed_in.environ["VX_TOKEN_BASE_URL"] = (
        "https://eu-aiplatform.googleapis.com/v1/projects/p/locations/eu/endpoints/1"
    )
    assert named(gathered(signed_in), "url gemini")[0].ok == "fail"
    signed_in.environ["VX_TOKEN_BASE_URL"] = ""
    box_without_url = signed_in.config.read_text().replace("base_url", "# base_url")
    signed_in.config.write_text(box_without_url)
    signed_in.environ["VX_TOKEN_LOCATION"] = "us-centrall1"
    [check] = named(gathered(signed_in), "url gemini")
    assert (check.ok, check.hint) == ("warn", "did you mean us-central1?")


def test_a_model_needs_its_publisher(signed_in: Box) -> None:
    signed_in.environ["VX_TOKEN_MODEL"] = "gemini-2.5-flash"
    [check] = named(gathered(signed_in), "model gemini")
    assert (check.ok, check.hint) == ("warn", 'try: model = "google/gemini-2.5-flash"')
    signed_in.environ["VX_TOKEN_BASE_URL"] = (
        "http://127.0.0.1/v1/projects/p/locations/us-central1/endpoints/7/invoke/v1"
    )
    assert named(gathered(signed_in), "model gemini") == []  # an endpoint's own model has none


@pytest.mark.parametrize(
    ("location", "model", "told"),
    [
        ("us-central1", "google/gemini-3-pro-preview", True),
        ("europe-west4", "google/gemini-3-flash-preview", True),
        ("global", "google/gemini-3-pro-preview", False),
        ("us-central1", "google/gemini-2.5-flash", False),
        ("us-central1", "", False),
    ],
)
def test_a_region_is_told_for_a_model_that_is_only_global(location: str, model: str, told: bool) -> None:
    checks = [*doctor_token._global_models(Profile("p", project="p", location=location, model=model))]
    assert [(check.ok, check.hint) for check in checks] == ([("warn", 'set location = "global"')] if told else [])


# --- token, service, runtime -------------------------------------------------------------------------------------


def test_the_token_tells_how_it_stands(signed_in: Box, google: Emulator) -> None:
    assert checks(signed_in, "token gemini") == [("warn", "none yet", "run: vx-token refresh --profile gemini")]
    google.lifetime = 1.5
    signed_in.refresh()
    until(lambda: named(gathered(signed_in), "token gemini")[0].detail == "expired, and no daemon is running")

    google.revoke_identity(google.issued[-1].identity)
    signed_in.refresh()
    [refused] = checks(signed_in, "token gemini")
    assert refused[:2] == ("fail", "no live token; Google no longer accepts this login (invalid_grant)")
    assert refused[2].startswith("make a new key: gcloud iam service-accounts keys create ")


def test_a_failed_refresh_with_a_live_token_is_a_warning(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    google.fail("token", status=503, times=None)
    signed_in.refresh()
    [check] = named(gathered(signed_in), "token gemini")
    assert (check.ok, check.detail.partition("; ")[2]) == ("warn", "127.0.0.1 answered HTTP 503")


def test_another_version_in_the_service_is_a_failure(signed_in: Box) -> None:
    facts = replace(gathered(signed_in), daemon={"version": "0.0.1", "pid": 1})
    [check] = named(facts, "service")
    assert (check.ok, check.hint) == ("fail", "run: vx-token service install")
    assert check.detail.startswith("the daemon is version 0.0.1, this command is ")
    assert check.fix == ()  # a daemon that was started by hand is not ours to restart
    installed = ServiceStatus(Path("/unit"), True, "active")
    [check] = named(replace(facts, standing=installed), "service")
    assert check.fix == ("vx-token", "service", "restart")
    [check] = named(replace(facts, daemon=None, standing=replace(installed, active="failed")), "service")
    assert check.fix == ("vx-token", "service", "start")


def test_an_environment_that_the_service_does_not_share_is_named_without_its_values(signed_in: Box) -> None:
    with signed_in.daemon():
        signed_in.environ |= {"HTTPS_PROXY": "http://me:secret@proxy.example:1", "GOOGLE_CLOUD_PROJECT": "other"}
        [difference] = checks(signed_in, "service environment")
    assert difference[0] == "warn"
    assert difference[1] == "this shell and the daemon differ in GOOGLE_CLOUD_PROJECT, HTTPS_PROXY"


def test_a_configuration_that_the_daemon_refuses_is_told(signed_in: Box) -> None:
    facts = replace(gathered(signed_in), daemon={"config_error": "bad", "version": "1"})
    assert "an older configuration: bad" in named(facts, "config")[1].detail


def test_a_runtime_folder_that_others_can_change_is_a_failure(signed_in: Box) -> None:
    signed_in.runtime.mkdir(0o700)
    signed_in.runtime.chmod(0o777)
    [check] = named(gathered(signed_in), "runtime")
    assert check.ok == "fail"
    assert check.detail.endswith("can be written by others")
    assert check.hint == f"make it yours alone: chmod 700 {signed_in.runtime}"


def test_a_token_file_that_lost_its_content_is_a_failure(signed_in: Box) -> None:
    signed_in.refresh()
    (signed_in.runtime / "gemini/token").write_text("")
    [check] = named(gathered(signed_in), "runtime")
    assert (check.ok, check.hint) == ("fail", "run: vx-token refresh")


# --- the shell and what passes by it -----------------------------------------------------------------------------


def test_the_hook_is_found_where_it_is_loaded(signed_in: Box) -> None:
    assert checks(signed_in, "hook")[0][:2] == ("warn", "no start-up file loads it")
    (signed_in.home / ".zshrc").write_text("# vx-token hook zsh\n. /opt/vx-token.zsh\n")
    [check] = checks(signed_in, "hook")
    assert check[1] == f"not loaded in this shell, though {signed_in.home}/.zshrc line 2 loads it"


SETS = [
    "export OPENAI_API_KEY=sk-1",
    "OPENAI_API_KEY=sk-1",
    "if true; then export OPENAI_API_KEY=sk-1; else true; fi",
    "if true; then true; else export OPENAI_API_KEY=sk-1; fi",
    "export FOO=1 OPENAI_API_KEY=sk-1",
    'export "OPENAI_API_KEY=sk-1"',
    "export OPENAI_API_KEY='sk-1",
    "declare -gx OPENAI_API_KEY=sk-1",
    "typeset -gx OPENAI_API_KEY=$(pass key)",
    "{ export OPENAI_API_KEY=sk-1; }",
]


@pytest.mark.parametrize("line", SETS)
def test_a_key_that_is_set_after_the_hook_is_named_by_its_line(signed_in: Box, line: str) -> None:
    hook = 'eval "$(vx-token hook bash)"'
    rc = signed_in.home / ".bashrc"
    rc.write_text(f"{hook}\n# export OPENAI_API_KEY=no\necho $OPENAI_API_KEY\n{line}\n")
    [check] = named(gathered(signed_in), "start-up file")
    assert (check.ok, check.detail) == ("fail", f"{rc} line 4 sets OPENAI_API_KEY after the hook is loaded")
    rc.write_text(f"{line}\n{hook}\n")
    assert named(gathered(signed_in), "start-up file") == []


@pytest.mark.parametrize(
    "line",
    [
        "OPENAI_API_KEY=x some-tool --version",
        "true # export OPENAI_API_KEY=1",
        "with-key() { export OPENAI_API_KEY=1; }",
        "export OPENAI_API_KEY",
        "unset OPENAI_API_KEY",
        "set -e OPENAI_API_KEY",
    ],
)
def test_a_line_that_sets_no_key_for_the_shell_is_no_trouble(line: str) -> None:
    assert shell_startup.scan(f"vx-token hook bash\n{line}\n").sets == {}


HOOK = "vx-token hook some-shell\n"
ORDERS = {
    "fish": ({".config/fish/conf.d/vx-token.fish": HOOK, ".config/fish/config.fish": "set -gx OPENAI_API_KEY sk\n"}, 1),
    "bash": ({".bashrc": HOOK, ".bash_profile": ". ~/.bashrc\nexport OPENAI_API_KEY=sk\n"}, 2),
    "zsh": ({".zshenv": HOOK, ".zshrc": "export OPENAI_API_KEY=sk\n"}, 1),
    "zsh login": ({".zshrc": HOOK, ".zlogin": "export OPENAI_API_KEY=sk\n"}, 1),
}


@pytest.mark.parametrize("shell", ORDERS)
def test_a_key_is_found_in_a_file_that_is_read_after_the_one_with_the_hook(signed_in: Box, shell: str) -> None:
    files, number = ORDERS[shell]
    for name, text in files.items():
        (signed_in.home / name).parent.mkdir(parents=True, exist_ok=True)
        (signed_in.home / name).write_text(text)
    [check] = named(gathered(signed_in), "start-up file")
    last = signed_in.home / list(files)[-1]
    assert check.detail == f"{last} line {number} sets OPENAI_API_KEY after the hook is loaded"


def test_a_key_above_the_reading_of_the_hook_is_no_trouble(signed_in: Box) -> None:
    (signed_in.home / ".bashrc").write_text(HOOK)
    (signed_in.home / ".bash_profile").write_text('export OPENAI_API_KEY=sk\n. "$HOME/.bashrc"\n')
    assert named(gathered(signed_in), "start-up file") == []


def test_a_paused_hook_is_told(signed_in: Box) -> None:
    signed_in.environ |= {"VX_TOKEN_STATUS": "gemini paused", "VX_TOKEN_HOOK": "1 "}
    [check] = named(gathered(signed_in), "hook")
    assert (check.ok, check.hint) == ("warn", "run vx-token-on to resume")


def test_fish_is_read_as_fish(signed_in: Box) -> None:
    folder = signed_in.home / ".config/fish/conf.d"
    folder.mkdir(parents=True)
    (folder / "keys.fish").write_text("vx-token hook fish | source\nset -gx OPENAI_API_KEY sk-1\n")
    [check] = named(gathered(signed_in), "start-up file")
    assert "keys.fish line 2 sets OPENAI_API_KEY" in check.detail


OURS = "https://emulator.invalid/v1"
GOOD = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": OURS, "OPENAI_API_BASE": OURS, "VX_TOKEN_EXPIRES_AT": "9999999999"}
RESET = 'eval "$(vx-token env)"'


@pytest.fixture
def at_home(box: Box) -> Box:
    """A profile whose URL is OURS; nothing is asked."""
    box.key.write_text("{}")
    box.profile(url=OURS)
    return box


@pytest.mark.parametrize(
    ("more", "ok", "detail"),
    [
        ({}, "ok", "consistent"),
        ({"OPENAI_API_KEY": "k\n"}, "fail", "OPENAI_API_KEY contains white space"),
        ({"VX_TOKEN_EXPIRES_AT": ""}, "warn", "OPENAI_API_KEY was not set by vx-token"),
        ({"VX_TOKEN_EXPIRES_AT": "1000"}, "fail", "the token that this shell exports has expired"),
        ({"OPENAI_API_BASE": f"{OURS}x"}, "fail", "OPENAI_API_BASE differs from OPENAI_BASE_URL; tools read either"),
        ({"OPENAI_API_BASE_URL": f"{OURS}x"}, "fail", "OPENAI_API_BASE_URL differs from OPENAI_BASE_URL; tools read"),
        ({"OPENAI_API_BASE_URL": "https://u:pw@x.example/"}, "fail", "OPENAI_API_BASE_URL leads to x.example, and"),
        ({"OPENAI_CUSTOM_HEADERS": "A: b\nauthorization: Bearer x"}, "fail", "OPENAI_CUSTOM_HEADERS contains an"),
        ({"OPENAI_CUSTOM_HEADERS": "A: b"}, "ok", "consistent"),
        ({"AZURE_OPENAI_KEY": "x"}, "warn", "AZURE_OPENAI_KEY is set"),
        ({"VX_TOKEN_PROJCT": "x"}, "warn", "VX_TOKEN_PROJCT has no effect"),
        ({"VX_TOKEN_LOCATION": "eu", "VX_TOKEN_XYZZY": "x"}, "ok", "consistent"),
        ({"OPENAI_API_KEY": API_KEY}, "fail", "OPENAI_API_KEY is a Google API key (AIza…), and Vertex AI takes only"),
        ({"OPENAI_API_KEY": API_KEY, "VX_TOKEN_EXPIRES_AT": "", "OPENAI_BASE_URL": GEMINI}, "fail", "OPENAI_API_BASE"),
    ],
)
def test_variables_that_mislead_tools_are_told(at_home: Box, more: dict[str, str], ok: str, detail: str) -> None:
    at_home.environ |= GOOD | more
    check = named(gathered(at_home), "variables")[-1]
    assert (check.ok, check.detail.startswith(detail)) == (ok, True)
    assert API_KEY not in repr(check)


@pytest.mark.parametrize(
    "more",
    [
        {"OPENAI_BASE_URL": ""},
        {"OPENAI_API_BASE": ""},
        {"OPENAI_API_BASE": "https://emulator.invalid/v2"},
        {"OPENAI_API_BASE": "https://other.example/v1"},
        {"OPENAI_BASE_URL": "https://other.example/v1", "OPENAI_API_BASE": OURS},
        {"OPENAI_BASE_URL": "https://user:secret@[broken"},
        {"VX_TOKEN_EXPIRES_AT": "", "OPENAI_BASE_URL": "https://other.example/v1"},
    ],
)
def test_the_remedy_for_a_wrong_url_replaces_every_url(at_home: Box, more: dict[str, str]) -> None:
    # To unset one of them would leave the token to another's host, or to a tool's own default, api.openai.com.
    at_home.environ |= GOOD | more
    hints = [check.hint for check in named(gathered(at_home), "variables")]
    assert hints
    assert all(RESET in hint and "unset" not in hint for hint in hints)


def test_a_google_token_without_a_base_url_is_told(signed_in: Box) -> None:
    signed_in.environ |= {"OPENAI_API_KEY": "k", "VX_TOKEN_EXPIRES_AT": "9999999999"}
    [check] = named(gathered(signed_in), "variables")
    assert check.ok == "fail"
    assert "tools send it to api.openai.com" in check.detail


def test_a_local_key_set_by_hand_needs_every_name_of_the_url(at_home: Box) -> None:
    url = "http://127.0.0.1:8490/v1"
    at_home.environ |= {"OPENAI_API_KEY": "vx-local-1", "OPENAI_BASE_URL": url}
    [check] = named(gathered(at_home), "variables")
    assert check.ok == "warn"
    assert check.detail.startswith("OPENAI_API_BASE, OPENAI_API_BASE_URL not set: tools that read it send the gateway")
    assert check.hint == f"export OPENAI_API_BASE={url} OPENAI_API_BASE_URL={url}"
    at_home.environ |= {"OPENAI_API_BASE": url, "OPENAI_API_BASE_URL": url}
    assert [check.ok for check in named(gathered(at_home), "variables")] == ["ok"]


def test_in_gateway_mode_the_exported_key_outlives_every_token(at_home: Box) -> None:
    at_home.environ |= GOOD | {"VX_TOKEN_EXPIRES_AT": "1000", "VX_TOKEN_MODE": "gateway"}
    assert named(gathered(at_home), "variables")[0].ok == "ok"


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        (".env", "A=1\nOPENAI_API_KEY=sk-1\n", " line 2 sets OPENAI_API_KEY; aider prefers it"),
        (".env", "export OPENAI_API_KEY=sk-1\n", " line 1 sets OPENAI_API_KEY; aider prefers it"),
        (".aider.conf.yml", "openai-api-key: sk-1\n", " line 1 sets openai-api-key; aider prefers it"),
        (".env", "# OPENAI_API_KEY=sk-1\nMY_OPENAI_API_KEY=x\n", ""),
    ],
)
def test_a_key_in_a_file_that_a_tool_prefers_is_told(signed_in: Box, name: str, text: str, where: str) -> None:
    for folder in (signed_in.root, signed_in.home):
        (folder / name).write_text(text)
        told = named(gathered(signed_in), "key files")
        assert [where in check.detail for check in told] == ([True] if where else [])
        assert "sk-1" not in repr(told)
        (folder / name).unlink()


THEIRS = "https://api.provider.example/v1"


def key_files(box: Box) -> list[tuple[str, ...]]:
    """What a real doctor says of the tools' own files, in its order, with the folder's name left out."""
    told = [(ok, detail, hint) for ok, detail, hint in checks(box, "key files")]
    return [(ok, *(text.replace(f"{box.root}/", "") for text in rest)) for ok, *rest in told]


def test_another_providers_url_is_a_failure_and_comes_before_its_key(at_home: Box) -> None:
    # aider prefers .env to the environment: without the key there, it sends the Google token to that provider.
    (at_home.root / ".env").write_text(f'OPENAI_API_KEY=sk-1\nexport OPENAI_API_BASE="{THEIRS}" # mine\n')
    (at_home.home / ".env").write_text("OPENAI_BASE_URL='http://user:secret@provider.example:8080'\n")
    assert key_files(at_home) == [
        (
            "fail",
            ".env line 2 sets OPENAI_API_BASE to api.provider.example; aider sends OPENAI_API_KEY there",
            "first remove that line, only then the key (.env line 1)",
        ),
        (
            "fail",
            "home/.env line 1 sets OPENAI_BASE_URL to provider.example:8080; aider sends OPENAI_API_KEY there",
            "first remove that line, only then the key (.env line 1)",
        ),
        (
            "warn",
            ".env line 1 sets OPENAI_API_KEY; aider prefers it to the environment's",
            "first remove the URLs (.env line 2, home/.env line 1), only then that key",
        ),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env", f"OPENAI_API_KEY={API_KEY}\n"),
        (".env", f"export AIDER_OPENAI_API_KEY='{API_KEY}'\n"),
        (".aider.conf.yml", f'openai-api-key: "{API_KEY}"\n'),
    ],
)
def test_an_api_key_in_a_tools_file_is_told(at_home: Box, name: str, text: str) -> None:
    (at_home.root / name).write_text(text)
    [check] = named(gathered(at_home), "key files")
    assert "to a Google API key (AIza…), and Vertex AI takes only access tokens; aider prefers it" in check.detail
    assert API_KEY not in repr(check)


@pytest.mark.parametrize(("inside", "ok"), [("1", "warn"), ("", "ok")])
def test_cursor_is_told_that_its_servers_send_the_requests(at_home: Box, inside: str, ok: str) -> None:
    assert not named(gathered(at_home), "Cursor")
    (at_home.home / ".config/Cursor").mkdir(parents=True)
    at_home.environ["CURSOR_TRACE_ID"] = inside
    [check] = named(gathered(at_home), "Cursor")
    assert (check.ok, "from Cursor's servers" in check.detail) == (ok, True)


@pytest.mark.parametrize(
    ("name", "text", "stranger"),
    [
        (".env", f"OPENAI_BASE_URL={THEIRS}\n", "api.provider.example"),
        (".env", f"AIDER_OPENAI_API_BASE={THEIRS}\n", "api.provider.example"),
        (".env", "OPENAI_API_BASE=\n", "api.openai.com"),
        (".env", "OPENAI_API_BASE=https://emulator.invalid.example/v1\n", "emulator.invalid.example"),
        (".env", "OPENAI_API_BASE=http://localhost:11434/v1\n", "127.0.0.1:11434"),
        (".aider.conf.yml", f"openai-api-base: {THEIRS}\n", "api.provider.example"),
        (".env", f"OPENAI_API_BASE={OURS}/\n", ""),
        (".env", "OPENAI_API_BASE=${OPENAI_BASE_URL}\n", ""),
        (".env", "OPENAI_API_BASE=http://localhost:8490/v1\n", ""),
        (".env", f"# OPENAI_API_BASE={THEIRS}\nMY_OPENAI_API_BASE={THEIRS}\n", ""),
    ],
)
def test_only_a_url_that_leads_elsewhere_is_a_failure(at_home: Box, name: str, text: str, stranger: str) -> None:
    at_home.environ["OPENAI_BASE_URL"] = OURS
    (at_home.root / name).write_text(text)
    told = [
        (check.ok, check.hint) for check in named(gathered(at_home), "key files") if f" to {stranger};" in check.detail
    ]
    assert told == ([("fail", "remove that line")] if stranger else [])
    assert bool(named(gathered(at_home), "key files")) == bool(stranger)


def test_a_start_up_file_is_told_of_its_url_before_its_key(at_home: Box) -> None:
    (at_home.home / ".bashrc").write_text(f"{HOOK}export OPENAI_API_KEY=sk-1\nexport OPENAI_BASE_URL={THEIRS}\n")
    names = [check.detail.split(" sets ")[1].split()[0] for check in named(gathered(at_home), "start-up file")]
    assert names == ["OPENAI_BASE_URL", "OPENAI_API_KEY"]


MODELS = f"""\
- model_id: theirs
  api_base: {THEIRS}
  api_key_name: theirs
- model_id: leaks
  api_key_name: openai
  api_base: "{THEIRS}"
- model_id: ours
  api_base: {OURS}
  api_key_name: openai
"""


def test_a_key_that_llm_keeps_is_told(at_home: Box) -> None:
    at_home.environ["LLM_USER_PATH"] = str(at_home.root / "llm")
    keys, models = llm_files(at_home.environ)
    keys.parent.mkdir()
    keys.write_text('{"openai": "sk-1"}')
    detail = "llm/keys.json sets the key `openai`; llm prefers it to the environment's"
    assert key_files(at_home) == [("warn", detail, "remove it, or write it again at each refresh (on_refresh)")]
    models.write_text(MODELS)
    place = "llm/extra-openai-models.yaml line 6"
    assert key_files(at_home) == [
        (
            "fail",
            f"{place} sets api_base to api.provider.example; llm sends OPENAI_API_KEY there",
            "first remove that line, only then the key (llm/keys.json)",
        ),
        ("warn", detail, f"first remove the URLs ({place}), only then that key"),
    ]
    keys.write_text('{"other": "x"}')
    models.unlink()
    assert key_files(at_home) == []


@pytest.mark.parametrize(
    ("more", "ok"),
    [
        ({}, "fail"),
        ({"NO_PROXY": "example.com"}, "fail"),
        ({"NO_PROXY": "127.0.0.1, localhost"}, "ok"),
        ({"no_proxy": "*"}, "ok"),
    ],
)
def test_a_proxy_must_spare_this_machine(signed_in: Box, more: dict[str, str], ok: str) -> None:
    signed_in.environ |= {"HTTP_PROXY": "http://me:secret@proxy.example:1"} | more
    [check] = named(gathered(signed_in), "proxies")
    assert check.ok == ok
    assert "secret" not in repr(check)


def test_the_gateway_must_take_connections(signed_in: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    signed_in.config.write_text(signed_in.config.read_text() + f"\n[gateway]\nport = {port}\nenabled = true\n")
    [check] = named(gathered(signed_in), "gateway")
    assert (check.ok, check.detail) == ("fail", "the gateway is unreachable: Connection refused")
    assert check.hint == "run: vx-token service install"
    with signed_in.start("gateway", stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: named(gathered(signed_in), "gateway") == [Check("gateway", "ok", "accepts connections")])
        finally:
            process.terminate()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", b"SSH-2.0-none\r\n", b""])
def test_another_program_on_the_gateways_port_is_a_failure(signed_in: Box, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        signed_in.config.write_text(signed_in.config.read_text() + f"\n[gateway]\nport = {port}\nenabled = true\n")
        heard = list[bytes]()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                heard.append(client.recv(65536))
                client.sendall(answer)

        stranger = threading.Thread(target=serve)
        stranger.start()
        [check] = named(gathered(signed_in), "gateway")
        stranger.join(10)
    assert (check.ok, check.detail) == ("fail", f"another program listens on port {port}")
    assert "`gateway.port`" in check.hint
    assert b"Authorization" not in heard[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_another_users_program_on_the_gateways_port_is_named(signed_in: Box) -> None:
    code = (
        "import os, socket, sys, json; os.setgid(65534); os.setuid(65534); "
        "server = socket.create_server(('127.0.0.1', 0)); print(server.getsockname()[1], flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-I", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        signed_in.config.write_text(signed_in.config.read_text() + f"\n[gateway]\nport = {port}\nenabled = true\n")
        [check] = named(gathered(signed_in), "gateway")
        process.communicate("")
    assert (check.ok, check.detail) == ("fail", f"another user (uid 65534) listens on port {port}")
    assert "`gateway.port`" in check.hint


# --- asking Google -----------------------------------------------------------------------------------------------


def live(box: Box) -> dict[str, Check]:
    return {check.name: check for check in with_hints(doctor_live.examine(gathered(box)))}


def test_without_a_token_there_is_nothing_to_ask_with(signed_in: Box) -> None:
    assert checks(signed_in, "live", "--live") == [("fail", "there is no live token", "run: vx-token refresh")]


def test_without_a_profile_there_is_nobody_to_ask_for(box: Box) -> None:
    box.config.write_text("[profiles")
    assert checks(box, "live", "--live") == [("fail", "no profile is configured", "see the check `config`")]


def test_an_answer_that_drips_in_has_an_end(signed_in: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in.refresh()
    monkeypatch.setattr(request, "TIMEOUT", 1.0)

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            while True:
                connection.sendall(b"H")
                time.sleep(0.2)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        signed_in.environ["VX_TOKEN_BASE_URL"] = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        assert live(signed_in)["live completion"].detail == "127.0.0.1 did not answer within 1 s"


def test_a_certificate_that_a_refresh_would_trust_is_trusted(signed_in: Box) -> None:
    signed_in.refresh()
    context, authority = tls_contexts(signed_in.root)

    with upstream(tls=context) as server:
        signed_in.environ["VX_TOKEN_BASE_URL"] = server.url
        assert "certificate" in live(signed_in)["live completion"].detail.lower()
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            trusting = replace(gathered(signed_in), environ=signed_in.environ | {name: str(authority)})
            doctor_live.examine(trusting)
        assert [seen.path for seen in server.seen] == ["/v1/projects/p/endpoints/openapi/chat/completions"] * 2


def test_a_revoked_token_is_told_twice(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    google.revoke(signed_in.read("token"))
    told = live(signed_in)
    assert told["live token"].detail == "Google does not accept this token"
    assert told["live completion"].detail == "Vertex AI does not accept this login's token (HTTP 401)"
    assert told["live completion"].hint.startswith(
        "run: vx-token refresh; if that does not help, make a new key: gcloud"
    )
    assert examined(signed_in, "--live", status=1)


def test_the_token_goes_to_tokeninfo_in_the_body_only(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    live(signed_in)
    seen = [each for each in google.requests if each.route == "tokeninfo"]
    assert [(each.method, each.path) for each in seen] == [("POST", "/tokeninfo")]


@pytest.mark.parametrize(("ahead", "ok"), [(0, "ok"), (-100, "warn"), (1000, "fail")])
def test_a_wrong_clock_is_measured_by_googles(box: Box, ahead: float, ok: str) -> None:
    with running(now=lambda: time.time() - ahead) as elsewhere:
        elsewhere.authorized_user(box.key)
        box.profile(url=elsewhere.base_url())
        before = live(box)
        box.refresh()
        check = live(box)["live clock"]
    assert check.ok == before["live clock"].ok == ok
    assert before["live"].detail == "there is no live token"
    seconds = re.fullmatch(r"(\d+) s (ahead of|behind) Google's", check.detail)
    assert seconds is None or (abs(int(seconds[1]) - abs(ahead)) <= 3 and (seconds[2] == "ahead of") == (ahead > 0))
    assert (seconds is None) == (ok == "ok")


@pytest.mark.parametrize(
    ("status", "hint"),
    [(403, "ask an administrator"), (404, "check project, location"), (503, "Vertex AI has a problem")],
)
def test_googles_own_sentence_is_told_with_a_hint(signed_in: Box, google: Emulator, status: int, hint: str) -> None:
    signed_in.refresh()
    google.fail("chat", status=status)
    check = live(signed_in)["live completion"]
    assert check.detail.startswith(f"google/gemini-2.5-flash: HTTP {status}, ")
    assert check.hint.startswith(hint)


def test_an_answer_that_is_no_completion_is_none(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    google.fail("chat", status=200, body="<html>Log in to the hotel</html>")
    check = live(signed_in)["live completion"]
    assert (check.ok, check.hint) == ("fail", diagnosis.HINTS[200])


def test_nobody_there_is_told_without_the_token(signed_in: Box) -> None:
    signed_in.refresh()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    signed_in.environ["VX_TOKEN_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
    check = live(signed_in)["live completion"]
    assert check.detail == "127.0.0.1 is unreachable: Connection refused"


def test_the_token_follows_no_redirection(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    google.fail("chat", status=302, headers={"Location": f"{google.url}/elsewhere"})
    assert live(signed_in)["live completion"].detail.startswith("google/gemini-2.5-flash: HTTP 302")
    assert not [each for each in google.requests if each.path == "/elsewhere"]


def test_the_json_form_is_a_contract(signed_in: Box) -> None:
    report = examined(signed_in)
    assert sorted(report) == ["checks", "ok", "schema", "version"]
    assert all(sorted(check) == ["detail", "hint", "name", "ok"] for check in report["checks"])
    assert {check["ok"] for check in report["checks"]} <= {"ok", "warn", "fail"}
