"""Reads Vertex AI's lists with a profile's token: all pages, and each error as one sentence with a command."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from vx_token.config.model import Profile
from vx_token.config.vertex import UNIVERSE, Place, base_url
from vx_token.credentials.google_errors import Login
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.outputs.exports import header_lines
from vx_token.vertex import request
from vx_token.vertex.diagnosis import Asked, Diagnosis, explain

MOST_PAGES = 200
"""Pages of one list that are read, so that a server that repeats itself is left after a while."""

USERS = ("authorized_user", "external_account_authorized_user")
"""Types of credentials whose requests need a quota project."""


@dataclass(frozen=True, slots=True)
class Account:
    """A profile with its token and login, and the environment for proxies and certificates."""

    environ: Mapping[str, str]
    profile: Profile
    token: Token
    login: Login

    @property
    def place(self) -> Place:
        """The parts of the profile's base URL; of the URL made from project and location when it is another server's.

        Raises:
            ConfigError: the profile names no project.
        """
        return place_of(self.profile)

    def headers(self, project: str) -> dict[str, str]:
        """Return the request headers; a user's login without a quota project uses `project` as one."""
        lines = [line.partition(": ") for line in header_lines(self.token).splitlines()]
        quota = {"x-goog-user-project": project} if self.token.kind in USERS else {}
        return {**quota, **{name: value for name, _, value in lines}}

    def asked(self, location: str, subject: str, permission: str, again: str) -> Asked:
        """Describe a request in `location`, for the sentence about its answer."""
        place = self.place
        url = replace(place, root=place.root_of(location), location=location, endpoint="openapi", route="").url
        own = "" if place.universe == UNIVERSE else url
        profile = replace(self.profile, project=place.project, location=location, endpoint="openapi", base_url=own)
        return Asked(profile, "", self.token, self.login, subject, permission, again)


def place_of(profile: Profile) -> Place:
    """Return the parts of a profile's base URL, see `Account.place`.

    Raises:
        ConfigError: the profile names no project.
    """
    place = Place.parse(profile.url)
    if place is None and profile.project:
        place = Place.parse(base_url(profile.project, profile.location, profile.endpoint, profile.api_version))
    if place is None:
        hint = "set project and location in the profile"
        raise ConfigError(f"{profile.url} is not a URL of Vertex AI, so nothing can be listed there", hint)
    return place


def read(account: Account, url: str, asked: Asked) -> dict[str, Any]:
    """Return the JSON object at `url`.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: the message says why Vertex AI refuses, the hint what helps.
    """
    answer = request.get(account.environ, url, account.headers(asked.project))
    if answer.status == 200 and isinstance(answer.body, dict):
        return answer.body
    raise error_of(explain(answer, asked))


def pages(account: Account, url: str, key: str, asked: Asked, **query: str) -> Iterator[dict[str, Any]]:
    """Yield the objects in the member `key` of every page of a list.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: see `read`.
    """
    token = ""
    for _ in range(MOST_PAGES):
        parameters = query | ({"pageToken": token} if token else {})
        page = read(account, f"{url}?{urlencode(parameters)}", asked)
        items = page.get(key)
        yield from (item for item in items if isinstance(item, dict)) if isinstance(items, list) else ()
        following = page.get("nextPageToken")
        if not isinstance(following, str) or following in ("", token):
            return
        token = following


def error_of(diagnosis: Diagnosis) -> VxTokenError:
    """Return the error of a refused request: a login, a retry or a change of the configuration helps."""
    if diagnosis.status == 401:
        return LoginNeededError(diagnosis.detail, diagnosis.hint)
    if diagnosis.status in (0, 200, 429) or diagnosis.status >= 500:
        return TemporaryError(diagnosis.detail, diagnosis.hint)
    return ConfigError(diagnosis.detail, diagnosis.hint)
