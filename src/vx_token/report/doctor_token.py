"""Doctor's checks of the configuration, the credentials, the URLs, the runtime folder, the tokens and the service."""

import re
import shlex
from collections.abc import Iterator

from vx_token.config import vertex
from vx_token.config.duration import shown
from vx_token.config.model import METADATA, Profile
from vx_token.credentials import google_errors
from vx_token.credentials.credential_file import CredentialFile
from vx_token.errors import ConfigError, VxTokenError
from vx_token.install import service as install_service
from vx_token.report.doctor_facts import Check, DoctorFacts, ProfileFacts
from vx_token.tokens import model

DAY = 86400.0
OLD_KEY = 90 * DAY
"""Seconds after which Google recommends to replace a service account's key."""


def configuration(facts: DoctorFacts) -> Iterator[Check]:
    """Check the configuration, and the error of a daemon that could not reload it."""
    config = facts.config
    if isinstance(config, ConfigError):
        yield Check("config", "fail", config.message, config.hint)
        return
    names = ", ".join(config.profiles)
    where = str(config.path) if config.stamp else "no file; made from the variables GOOGLE_CLOUD_*"
    yield Check("config", "ok", f"{where}; profiles: {names}")
    if error := str((facts.daemon or {}).get("config_error") or ""):
        yield Check("config", "fail", f"the daemon still uses an older configuration: {error}", "correct the file")


def credentials(facts: DoctorFacts) -> Iterator[Check]:
    """Check each profile's credential file: it exists, is readable, private, and not too old."""
    for each in facts.profiles:
        yield _credential(each, facts)


def _credential(each: ProfileFacts, facts: DoctorFacts) -> Check:
    name, login = f"credentials {each.profile.name}", each.login
    if login is not None and each.profile.account:
        return _gcloud_login(name, login)
    if login is None and (facts.metadata or each.profile.credentials == METADATA):
        return Check(name, "ok", "from the metadata server")
    if login is None:
        return Check(name, "fail", "no Google login was found", f"run: {google_errors.LOGIN}")
    if login.problem:
        hint = f"set `credentials` to another file, or run: {google_errors.LOGIN}"
        return Check(name, "fail", f"{login.path} {login.problem}", hint)
    age = max(0.0, facts.now - login.modified_at)
    days = f"{age / DAY:.0f} days" if age >= 2 * DAY else shown(age)
    detail = f"{login.kind}, {login.path}, written {days} ago"
    if login.mode & 0o077:
        fix = ("chmod", "600", str(login.path))
        return Check(name, "warn", f"{detail}; other users can read it", f"run: {shlex.join(fix)}", fix)
    if login.kind == "service_account" and age > OLD_KEY:
        return Check(name, "warn", detail, "replace this key, because it is more than 90 days old")
    return Check(name, "ok", detail)


def _gcloud_login(name: str, login: CredentialFile) -> Check:
    if login.problem:
        return Check(name, "fail", login.problem, login.hint)
    detail = f"{login.kind}, gcloud's login of {login.account}"
    if login.mode & 0o077:
        fix = ("chmod", "600", str(login.path))
        return Check(name, "warn", f"{detail}; other users can read {login.path}", f"run: {shlex.join(fix)}", fix)
    return Check(name, "ok", detail)


def urls(facts: DoctorFacts) -> Iterator[Check]:
    """Check each profile's URL and model, without a request."""
    for each in facts.profiles:
        name, url = f"url {each.profile.name}", each.profile.url
        problem, hint = vertex.problem(url)
        if not problem and each.login is not None and not each.login.problem:
            problem, hint = vertex.universe_problem(url, each.login.universe)
        warning, usual = vertex.warning(url)
        if not warning:
            warning, usual = vertex.overruled(each.profile.base_url, each.profile.location)
        if problem:
            yield Check(name, "fail", problem, hint)
        elif warning:
            yield Check(name, "warn", warning, usual)
        else:
            yield Check(name, "ok", url)
        if each.profile.model and "/" not in each.profile.model and not vertex.is_own_endpoint(url):
            hint = f'try: model = "google/{each.profile.model}"'
            yield Check(f"model {each.profile.name}", "warn", f"{each.profile.model} lacks a publisher", hint)
        yield from _global_models(each.profile)


_ONLY_GLOBAL = re.compile(r"(google/)?gemini-3\b")
"""Models that no region serves: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/learn/locations."""


def _global_models(profile: Profile) -> Iterator[Check]:
    """Warn of models that are served only globally, in a profile with a region."""
    place = re.search(r"/locations/([a-z]+-[a-z]+\d+)/", profile.url)
    models = dict.fromkeys([profile.model, *profile.aliases.values(), *profile.models])
    wrong = [model for model in models if _ONLY_GLOBAL.match(model)]
    if place and wrong:
        hint = 'set location = "global"' + (" and remove base_url" if profile.base_url else "")
        detail = (
            f"{place[1]} does not serve {', '.join(wrong)}, which {'are' if wrong[1:] else 'is'} served only globally"
        )
        yield Check(f"model {profile.name}", "warn", detail, hint)


def runtime(facts: DoctorFacts) -> Iterator[Check]:
    """Check the runtime folder and the files in it."""
    if facts.runtime_problem:
        yield Check("runtime", "fail", facts.runtime_problem.message, facts.runtime_problem.hint)
        return
    problems = [problem for each in facts.profiles for problem in each.problems]
    if problems:
        fix = ("vx-token", "refresh", *(["--all"] if len(facts.profiles) > 1 else []))
        yield Check("runtime", "fail", "; ".join(problems), f"run: {shlex.join(fix)}", fix)
    else:
        yield Check("runtime", "ok", str(facts.runtime))


def tokens(facts: DoctorFacts) -> Iterator[Check]:
    """Check each profile's token: its remaining lifetime, and the last failure."""
    for each in facts.profiles:
        yield _token(each, facts)


def _token(each: ProfileFacts, facts: DoctorFacts) -> Check:
    name, state = f"token {each.profile.name}", each.state
    refresh = ("vx-token", "refresh", "--profile", each.profile.name)
    if not state.attempts:
        return Check(name, "warn", "none yet", f"run: {shlex.join(refresh)}", refresh)
    word, live, failure = model.condition(state, facts.now), state.live(facts.now), state.failure
    left = f"{shown(live.remaining(facts.now))} left" if live else "no live token"
    if failure is not None:
        return Check(name, "warn" if word == "retrying" else "fail", f"{left}; {failure.message}", failure.hint)
    if live is not None:
        return Check(name, "ok", f"{left}, {live.account or live.kind}" + (f"; {live.note}" if live.note else ""))
    if facts.daemon is None:
        return Check(name, "warn", "expired, and no daemon is running", "run: vx-token service install", refresh)
    return Check(name, "fail", "expired, though a daemon is running", "see: vx-token service logs")


def service(facts: DoctorFacts) -> Iterator[Check]:
    """Check that a daemon is running, has this version, and has the same environment as this shell."""
    if facts.daemon is None:
        yield _no_daemon(facts)
        return
    theirs = str(facts.daemon.get("version", "?"))
    if theirs != facts.version:
        detail = f"the daemon is version {theirs}, this command is {facts.version}"
        ours = facts.standing is not None and facts.standing.running
        fix = ("vx-token", "service", "restart") if ours else ()
        yield Check("service", "fail", detail, "run: vx-token service install", fix)
    else:
        yield Check("service", "ok", f"running, process {facts.daemon.get('pid', '?')}, version {theirs}")
    if facts.differs:
        detail = f"this shell and the daemon differ in {', '.join(facts.differs)}"
        yield Check("service environment", "warn", detail, "if this shell is right, run: vx-token service install")


def _no_daemon(facts: DoctorFacts) -> Check:
    """Return why no daemon serves this runtime folder: none is installed, it has stopped, or it serves another one."""
    if facts.standing is None or not facts.standing.installed:
        hint = "run: vx-token service install"
        return Check("service", "warn", "no daemon is running; tokens are refreshed only by commands", hint)
    try:
        install_service.require_running(facts.standing)
    except VxTokenError as error:
        return Check("service", "fail", error.message, error.hint, ("vx-token", "service", "start"))
    hint = "set VX_TOKEN_RUNTIME_DIR here as it is there, or run: vx-token service install"
    return Check("service", "warn", f"the service is running, but not for {facts.runtime}", hint)
