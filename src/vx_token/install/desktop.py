"""Programs that no shell starts: the session's environment gets the gateway's URL and a key of its own."""

import contextlib
import importlib.util
import plistlib
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vx_token.config.model import Config, Profile
from vx_token.errors import ConfigError
from vx_token.gateway import address, named_keys
from vx_token.install.changes import ProgramRunner
from vx_token.outputs import exports
from vx_token.system import atomic, installation, paths
from vx_token.system.file_edit import MASK, remove_empty_parents

KEY_NAME = "desktop"
"""The name of the local key, by which it is counted and revoked."""

LABEL = "local.vx-token.desktop"

RunWith = Callable[[list[str], Mapping[str, str]], bool]
"""Runs a program with more variables; returns whether it succeeded."""

AT_LOGIN = "the running session could not be changed; its programs use the gateway from the next login on"


class Session(Protocol):
    """The environment of a login session, implemented by `UserManagerSession` and `LaunchdSession`."""

    @property
    def path(self) -> Path:
        """The file from which the session reads the variables at login."""

    @property
    def remark(self) -> str:
        """What must be started again."""

    def text(self, variables: Mapping[str, str]) -> str:
        """Return the file's content."""

    def names(self, text: str) -> list[str]:
        """Return the names of the variables in the file."""

    def apply(self, variables: Mapping[str, str], run: RunWith) -> bool:
        """Give the variables to what the running session starts from now on; return whether that succeeded."""

    def clear(self, names: list[str], run: RunWith) -> None:
        """Take the variables back from the running session, after the file was removed."""


@dataclass(frozen=True, slots=True)
class UserManagerSession:
    """The environment of a systemd user manager and of D-Bus; see environment.d(5)."""

    folder: Path
    remark: str = (
        "services and D-Bus programs that start from now on use the gateway; restart running ones "
        "(systemctl --user restart NAME)\n           log out and in for programs that your desktop's menu starts"
    )

    @property
    def path(self) -> Path:
        """The file, which takes precedence over those of the system."""
        return self.folder / "60-vx-token.conf"

    def text(self, variables: Mapping[str, str]) -> str:
        """Return the assignments; a quoted value is literal but for four characters."""
        lines = (f'{name}="{_literal(value)}"\n' for name, value in variables.items())
        return "".join(["# Written by `vx-token setup --desktop`; `vx-token setup --undo` removes it.\n", *lines])

    def names(self, text: str) -> list[str]:
        """Return the assigned names."""
        return re.findall(r"(?m)^(\w+)=", text)

    def apply(self, variables: Mapping[str, str], run: RunWith) -> bool:
        """Import them from the environment of the programs that set them, because arguments are visible to others."""
        run(["dbus-update-activation-environment", *variables], variables)
        return run(["systemctl", "--user", "import-environment", *variables], variables)

    def clear(self, names: list[str], run: RunWith) -> None:
        """Unset them; D-Bus can unset nothing, so that it keeps the revoked key until the session ends."""
        run(["systemctl", "--user", "unset-environment", *names], {})
        run(["systemctl", "--user", "daemon-reload"], {})


@dataclass(frozen=True, slots=True)
class LaunchdSession:
    """The environment of a macOS login session, set at each login by a launch agent."""

    agents: Path
    uid: int
    remark: str = "programs that start from now on use the gateway; quit and open those that are running"

    @property
    def path(self) -> Path:
        """The agent's property list."""
        return self.agents / f"{LABEL}.plist"

    def text(self, variables: Mapping[str, str]) -> str:
        """Return the property list; the shell takes the values from its environment."""
        script = "\n".join(f'launchctl setenv {name} "${name}"' for name in variables)
        content = {
            "Label": LABEL,
            "ProgramArguments": ["/bin/sh", "-c", script],
            "EnvironmentVariables": dict(variables),
            "RunAtLoad": True,
        }
        return plistlib.dumps(content, sort_keys=False).decode()

    def names(self, text: str) -> list[str]:
        """Return the names of the agent's variables."""
        try:
            return list(plistlib.loads(text.encode())["EnvironmentVariables"])
        except (ValueError, KeyError, TypeError):
            return []

    def apply(self, variables: Mapping[str, str], run: RunWith) -> bool:  # noqa: ARG002 - the signature of Session
        """Load the agent, which runs at once."""
        run(["launchctl", "bootout", f"gui/{self.uid}/{LABEL}"], {})
        return run(["launchctl", "bootstrap", f"gui/{self.uid}", str(self.path)], {})

    def clear(self, names: list[str], run: RunWith) -> None:
        """Unload the agent, and unset the variables."""
        run(["launchctl", "bootout", f"gui/{self.uid}/{LABEL}"], {})
        for name in names:
            run(["launchctl", "unsetenv", name], {})


@dataclass(frozen=True, slots=True)
class SetDesktop:
    """Writes the session's file and gives its variables to the running session.

    Attributes:
        session: the login session.
        environ: the program's environment.
        config: the configuration.
        profile: a profile in gateway mode.
        run_with: runs a program.
    """

    session: Session
    environ: Mapping[str, str] = field(repr=False)
    config: Config
    profile: Profile
    run_with: RunWith

    @property
    def path(self) -> Path:
        """The session's file."""
        return self.session.path

    def __str__(self) -> str:
        lines = self.session.text(self._variables(MASK)).splitlines()
        return f"write {self.path}\n" + "".join(f"    {line}\n" for line in lines)

    def perform(self) -> str:
        """Create the key and write the file (0600); return what must be started again.

        Raises:
            ConfigError: the key cannot be created, or the file cannot be written.
        """
        variables = self._variables(address.named_key(self.environ, KEY_NAME, None))
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(self.path, self.session.text(variables).encode())
        except OSError as error:
            raise ConfigError(f"cannot write {self.path}: {error.strerror}", "make its folder writable") from None
        return self.session.remark if self.session.apply(variables, self.run_with) else AT_LOGIN

    def is_done(self) -> bool:
        """Whether the file has the right content."""
        keys = [each.value for each in named_keys.named_keys(_state(self.environ)) if each.owner.name == KEY_NAME]
        with contextlib.suppress(OSError, ValueError):
            return bool(keys) and self.path.read_text(encoding="utf-8") == self.session.text(self._variables(keys[0]))
        return False

    def _variables(self, key: str) -> dict[str, str]:
        def url_of(profile: Profile) -> str:
            return address.base_url(self.config, profile.name)

        urls = exports.gateway_urls(self.config, self.profile, url_of)
        variables = exports.variables(self.profile, None, key, url_of(self.profile), urls)
        del variables["VX_TOKEN_EXPIRES_AT"]  # it would say that a shell with the hook is above
        return variables | address.no_proxy_variables(self.environ, self.config.gateway.host)


@dataclass(frozen=True, slots=True)
class UnsetDesktop:
    """Removes the session's file and its variables, revokes the key, and removes empty folders below `below`."""

    session: Session
    environ: Mapping[str, str] = field(repr=False)
    below: Path
    run_with: RunWith

    @property
    def path(self) -> Path:
        """The session's file."""
        return self.session.path

    def __str__(self) -> str:
        return f"remove {self.path} and its variables from the session; revoke the key {KEY_NAME}"

    def perform(self, run: ProgramRunner | None = None) -> None:  # noqa: ARG002 - all steps have the same signature
        """Revoke, remove and unset."""
        names = self.session.names(self.path.read_text(encoding="utf-8", errors="replace"))
        with contextlib.suppress(ConfigError):  # revoked by hand
            address.revoke_key(self.environ, KEY_NAME)
        with contextlib.suppress(OSError):  # other keys are there
            (_state(self.environ) / named_keys.FOLDER).rmdir()
        self.path.unlink(missing_ok=True)
        remove_empty_parents(self.path, self.below)
        self.session.clear(names, self.run_with)


def session(environ: Mapping[str, str], platform: str, uid: int) -> Session:
    """Return this machine's kind of login session."""
    home = paths.home_dir(environ)
    if platform == "darwin":
        return LaunchdSession(home / "Library" / "LaunchAgents", uid)
    return UserManagerSession(Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "environment.d")


def addition(
    login: Session, environ: Mapping[str, str], config: Config, profile: str, run_with: RunWith
) -> SetDesktop | None:
    """Return the step that sets a profile's variables, None when the session has them.

    Raises:
        ConfigError: the profile is in direct mode, or the gateway is not installed.
    """
    chosen = config.profile(profile)
    if chosen.mode != "gateway":
        problem = f"profile {chosen.name} is in direct mode, and its token would expire in programs that run for days"
        raise ConfigError(f"--desktop needs gateway mode: {problem}", "add: --mode gateway")
    if importlib.util.find_spec("aiohttp") is None:
        raise ConfigError("--desktop needs the gateway, which needs aiohttp", installation.how_to_add("gateway"))
    step = SetDesktop(login, environ, config, chosen, run_with)
    return None if step.is_done() else step


def removal(login: Session, environ: Mapping[str, str], run_with: RunWith) -> UnsetDesktop | None:
    """Return the step that takes everything back, None when there is nothing."""
    return UnsetDesktop(login, environ, paths.home_dir(environ), run_with) if login.path.is_file() else None


def runner(environ: Mapping[str, str], seconds: float = 10.0) -> RunWith:
    """Return a function that runs programs of this machine for at most `seconds` each."""

    def run_with(argv: list[str], variables: Mapping[str, str]) -> bool:
        try:
            done = subprocess.run(
                argv,
                env={**environ, **variables},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    return run_with


def _state(environ: Mapping[str, str]) -> Path:
    return paths.state_dir(environ)


def _literal(value: str) -> str:
    for character in ("\\", '"', "`"):
        value = value.replace(character, f"\\{character}")
    return value.replace("$", "$$")
