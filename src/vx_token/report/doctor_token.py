"""Doctor's checks of the way from the login to the token files."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from vx_token.config import vertex
from vx_token.config.duration import shown
from vx_token.config.model import Profile
from vx_token.credentials import google_errors
from vx_token.errors import ConfigError, VxTokenError
from vx_token.install import service as install_service
from vx_token.report.doctor_facts import Check, Patient, Surroundings
from vx_token.tokens import model

DAY = 86400.0
OLD_KEY = 90 * DAY
"""Seconds after which Google advises to replace a service account's key."""


def configuration(around: Surroundings) -> Iterator[Check]:
    """The file, or what stands for it."""
    config = around.config
    if isinstance(config, ConfigError):
        yield Check("config", "fail", config.message, config.hint)
        return
    names = ", ".join(config.profiles)
    where = str(config.path) if config.stamp else "no file; made from Google's own variables"
    yield Check("config", "ok", f"{where}; profiles: {names}")
    if error := str((around.daemon or {}).get("config_error") or ""):
        yield Check("config", "fail", f"the daemon goes by an older configuration: {error}", "mend the file")


def credentials(around: Surroundings) -> Iterator[Check]:
    """Each profile's credential file: there, readable, private, not too old."""
    for each in around.patients:
        yield _credential(each, around)


def _credential(each: Patient, around: Surroundings) -> Check:
    name, login = f"credentials {each.profile.name}", each.login
    if login is None and around.metadata:
        return Check(name, "ok", "from the metadata server")
    if login is None:
        return Check(name, "fail", "no Google login was found", f"run: {google_errors.LOGIN}")
    if login.problem:
        hint = f"set `credentials` to another, or run: {google_errors.LOGIN}"
        return Check(name, "fail", f"{login.path} {login.problem}", hint)
    age = max(0.0, around.now - login.modified_at)
    days = f"{age / DAY:.0f} days" if age >= 2 * DAY else shown(age)
    detail = f"{login.kind}, {login.path}, written {days} ago"
    if login.mode & 0o077:
        return Check(name, "warn", f"{detail}; others may read it", f"chmod 600 {login.path}")
    if login.kind == "service_account" and age > OLD_KEY:
        return Check(name, "warn", detail, "a key this old is due for replacement")
    return Check(name, "ok", detail)


def urls(around: Surroundings) -> Iterator[Check]:
    """Each profile's place, as far as it can be judged without asking."""
    for each in around.patients:
        wrong, hint = _misplaced(each.profile)
        yield Check(f"url {each.profile.name}", "fail" if wrong else "ok", wrong or each.profile.url, hint)
        if each.profile.model and "/" not in each.profile.model:
            hint = f'try: model = "google/{each.profile.model}"'
            yield Check(f"model {each.profile.name}", "warn", f"{each.profile.model} names no publisher", hint)


def _misplaced(profile: Profile) -> tuple[str, str]:
    parts = urlsplit(profile.url)
    host = parts.hostname or ""
    if re.search(r"/(chat/)?completions$", parts.path):
        return f"{profile.url} ends in what tools append themselves", "cut the end off: base_url stops before it"
    if not host.endswith("googleapis.com"):
        return "", ""
    if prefix := re.fullmatch(r"(global|us|eu)-aiplatform\.googleapis\.com", host):
        return f"there is no host {host}", f'set location = "{prefix[1]}" and leave base_url away'
    place = re.search(r"/locations/([^/]+)/", parts.path)
    if place is None or "/endpoints/" not in parts.path:
        return f"{profile.url} is no path of Vertex AI's", "it ends in …/projects/P/locations/L/endpoints/openapi"
    if vertex.host(place[1]) != host and not host.endswith("prediction.vertexai.goog"):
        return f"{host} does not serve the location {place[1]}", f"its host is {vertex.host(place[1])}"
    if not re.fullmatch(r"global|us|eu|[a-z]+-[a-z]+\d+", place[1]):
        return f"{place[1]} is no location of Google's", "global, us, eu, or a region such as us-central1"
    return "", ""


def runtime(around: Surroundings) -> Iterator[Check]:
    """The folder of the token files, and the files."""
    if around.runtime_problem:
        yield Check("runtime", "fail", around.runtime_problem.message, around.runtime_problem.hint)
        return
    found = [problem for each in around.patients for problem in each.problems]
    hint = "run: vx-token refresh" if found else ""
    yield Check("runtime", "fail" if found else "ok", "; ".join(found) or str(around.runtime), hint)


def tokens(around: Surroundings) -> Iterator[Check]:
    """Each profile's token: its life left, and the last failure."""
    for each in around.patients:
        yield _token(each, around)


def _token(each: Patient, around: Surroundings) -> Check:
    name, state = f"token {each.profile.name}", each.state
    if not state.attempts:
        return Check(name, "warn", "none yet", f"run: vx-token refresh --profile {each.profile.name}")
    word, live, failure = model.condition(state, around.now), state.live(around.now), state.failure
    left = f"{shown(live.remaining(around.now))} left" if live else "none alive"
    if failure is not None:
        return Check(name, "warn" if word == "retrying" else "fail", f"{left}; {failure.message}", failure.hint)
    if live is not None:
        return Check(name, "ok", f"{left}, {live.account or live.kind}" + (f"; {live.note}" if live.note else ""))
    if around.daemon is None:
        return Check(name, "warn", "it has ended, and no daemon renews it", "run: vx-token service install")
    return Check(name, "fail", "it has ended, though a daemon runs", "see: vx-token service logs")


def service(around: Surroundings) -> Iterator[Check]:
    """The daemon: that one runs, that it is this version, that it sees what this shell sees."""
    if around.daemon is None:
        yield _nobody(around)
        return
    theirs = str(around.daemon.get("version", "?"))
    if theirs != around.version:
        detail = f"the daemon is version {theirs}, this command is {around.version}"
        yield Check("service", "fail", detail, "run: vx-token service install")
    else:
        yield Check("service", "ok", f"runs, process {around.daemon.get('pid', '?')}, version {theirs}")
    if around.differs:
        detail = f"this shell and the daemon differ in {', '.join(around.differs)}"
        yield Check("service environment", "warn", detail, "if this shell is right, run: vx-token service install")


def _nobody(around: Surroundings) -> Check:
    """What it means that no daemon serves this folder: there shall be none, it has ended, or it serves another."""
    if around.standing is None or not around.standing.installed:
        hint = "run: vx-token service install"
        return Check("service", "warn", "no daemon runs; tokens are renewed only when a command asks", hint)
    try:
        install_service.running(around.standing)
    except VxTokenError as error:
        return Check("service", "fail", error.message, error.hint)
    hint = "set VX_TOKEN_RUNTIME_DIR here as it is there, or run: vx-token service install"
    return Check("service", "warn", f"the service runs, but not for {around.runtime}", hint)
