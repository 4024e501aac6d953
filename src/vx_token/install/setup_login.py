"""Setup's login: finds the one that Application Default Credentials lead to, or offers the other ones."""

import contextlib
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vx_token.config.model import METADATA, Profile
from vx_token.credentials import gcloud, gcloud_accounts, google_errors
from vx_token.credentials.credential_file import (
    CredentialFile,
    credential_file,
    describe,
    describe_login,
    find,
    metadata_likely,
)
from vx_token.errors import ConfigError, LoginNeededError, VxTokenError
from vx_token.install.setup_io import SetupContext
from vx_token.system import paths

GCLOUD_PAGE = "https://cloud.google.com/sdk/docs/install"
"""Google's page on how to install gcloud."""


def find_login(
    chosen: dict[str, str], table: Mapping[str, Any], config: Path, context: SetupContext
) -> CredentialFile | None:
    """Return the login, None for the metadata server; ask for another while there is none.

    Without Application Default Credentials it is the account that gcloud uses.

    Args:
        chosen: the settings that the user chose; a login that is chosen here is added.
        table: the profile's settings in the configuration file.
        config: the configuration file, at whose folder relative paths in `table` start.
        context: the rest of the program.

    Raises:
        LoginNeededError: there is no login and no prompt; the hint is the command that logs in.
        ConfigError: the credential file cannot give a token, and there is no prompt or an option names the file.
    """
    if value := chosen.get("credentials"):
        chosen["credentials"] = _absolute(value)
    named = bool(chosen.get("credentials"))
    if not named and (account := chosen.get("account") or str(table.get("account", ""))):
        return _account_found(account, context)
    while True:
        try:
            return _found(chosen.get("credentials") or _configured(table, config), context)
        except VxTokenError as error:
            default = _default_account(context.environ) if isinstance(error, LoginNeededError) else ""
            if named or not (context.prompter.interactive or default):
                raise
            context.echo(f"login      {error.message}")
        chosen |= _ask(context) if context.prompter.interactive else {"account": default}
        named = bool(chosen.get("credentials"))
        if chosen.get("account"):
            return _account_found(chosen["account"], context)


def _account_found(account: str, context: SetupContext) -> CredentialFile | None:
    """Return the login of an account of gcloud."""
    profile = Profile("", account=account)
    login, _ = find(profile, context.environ)
    context.echo(f"login      {login.name}" + (" (active)" if account == gcloud.ACTIVE else ""))
    return describe_login(profile, context.environ)


def _accounts(environ: Mapping[str, str]) -> list[str]:
    """Return gcloud's accounts, the active one first."""
    with contextlib.suppress(VxTokenError):
        active = gcloud.active(environ).account
        return sorted(gcloud_accounts.accounts(gcloud_accounts.database(environ)), key=lambda name: name != active)
    return []


def _default_account(environ: Mapping[str, str]) -> str:
    """Return gcloud's active account, or its only one; "" if neither has a login."""
    accounts, active = _accounts(environ), gcloud.active(environ).account
    return accounts[0] if len(accounts) == 1 or active in accounts else ""


def _absolute(value: str) -> str:
    return value if value == METADATA else str(Path(value).expanduser().absolute())


def _configured(table: Mapping[str, Any], config: Path) -> str:
    value = str(table.get("credentials", ""))
    return str(config.parent / Path(value).expanduser()) if value not in ("", METADATA) else value


def _found(credentials: str, context: SetupContext) -> CredentialFile | None:
    path = credential_file(Profile("", credentials=credentials), context.environ)
    if path is None:
        if credentials != METADATA and not metadata_likely(context.environ):
            raise LoginNeededError("no Google login was found", _how_to_log_in(context.environ))
        context.echo("login      this machine's metadata server")
        return None
    login = describe(path)
    if login.problem:
        variable = "" if credentials else _variable(path, context.environ)
        hint = f"name another by --credentials, or run: {google_errors.LOGIN}"
        raise ConfigError(f"the credential file {path}{variable} {login.problem}", hint)
    context.echo(f"login      {login.account or login.kind} ({path})")
    if not credentials and (accounts := _accounts(context.environ)):
        context.echo(f"           gcloud has others; to use one: --account {' or '.join(accounts)}")
    return login


def _variable(path: Path, environ: Mapping[str, str]) -> str:
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    return " (GOOGLE_APPLICATION_CREDENTIALS)" if named and Path(named).absolute() == path else ""


def has_gcloud(environ: Mapping[str, str]) -> bool:
    """Whether gcloud can be run."""
    return shutil.which("gcloud", path=environ.get("PATH")) is not None


def _how_to_log_in(environ: Mapping[str, str]) -> str:
    if accounts := _accounts(environ):
        return f"choose one of gcloud's accounts: vx-token setup --account {' or '.join(map(shlex.quote, accounts))}"
    if has_gcloud(environ):
        return f"run: {google_errors.LOGIN} (then again: vx-token setup)"
    key = "vx-token setup --credentials KEY.json"
    return f"with a key file: {key}; else install gcloud ({GCLOUD_PAGE}) and run: {google_errors.LOGIN}"


def _ask(context: SetupContext) -> dict[str, str]:
    """Ask for a way to log in and log in; return the settings that this changes, empty if it did not succeed."""
    accounts = {name: f"gcloud's login of {name}" for name in _accounts(context.environ)}
    if len(accounts) > 1:
        accounts[gcloud.ACTIVE] = "gcloud's active account, whichever that is at the time"
    ways = {"key": "a service account's key file", "metadata": "the metadata server of this machine at Google Cloud"}
    if has_gcloud(context.environ):
        ways = {**accounts, "gcloud": f"log in now with: {google_errors.LOGIN}", **ways}
    else:
        ways = {**accounts, **ways}
        context.echo(f"           gcloud is not installed; see {GCLOUD_PAGE}")
    for number, way in enumerate(ways.values(), 1):
        context.echo(f"  {number}  {way}")
    numbers = {str(number): name for number, name in enumerate(ways, 1)}
    default = "1" if accounts or "gcloud" in ways else ""
    while (answer := context.prompter.value(f"which login (1 to {len(ways)})", default).strip()) not in numbers:
        context.echo(f"answer with a number from 1 to {len(ways)}")
    way = numbers[answer]
    if way in accounts:
        return {"account": way}
    return {"gcloud": _from_gcloud, "key": _from_key_file, "metadata": _from_metadata}[way](context)


def _from_gcloud(context: SetupContext) -> dict[str, str]:
    if context.run(google_errors.LOGIN.split()) != 0:
        context.echo("gcloud did not complete the login")
        return {}
    if credential_file(Profile(""), context.environ) == paths.gcloud_credentials(context.environ):
        return {}
    return {"credentials": str(paths.gcloud_credentials(context.environ))}  # a variable names another file


def _from_key_file(context: SetupContext) -> dict[str, str]:
    while True:
        path = Path(_absolute(context.prompter.value("the path of the key file", "").strip()))
        problem = describe(path).problem
        if not problem:
            return {"credentials": str(path)}
        context.echo(f"{path} {problem}")


def _from_metadata(context: SetupContext) -> dict[str, str]:  # noqa: ARG001 - the ways have one signature
    return {"credentials": METADATA}
