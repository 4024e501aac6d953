"""`vx-token gateway …`, and `exec --gateway`: the loopback gateway alone, without the daemon."""

import os
import queue
import signal
import time
from collections.abc import Iterable
from typing import Any

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output, wiring
from vx_token.config import duration
from vx_token.config.load import load_config
from vx_token.config.model import Config, Profile
from vx_token.errors import TemporaryError, VxTokenError
from vx_token.gateway import address, controller
from vx_token.gateway.controller import GatewayController
from vx_token.outputs import exports
from vx_token.system import hardening, log
from vx_token.system.clock import NAP
from vx_token.tokens.refresh import Refresher


@click.group(cls=cli_help.Group, invoke_without_command=True)
@click.option("--port", type=click.IntRange(0, 65535), help="Another port than the configured; 0 takes a free one.")
@click.option("--access-log", is_flag=True, help="One line a request, without bodies and keys.")
@click.pass_context
def gateway(context: click.Context, port: int | None, access_log: bool) -> None:
    """Serve the loopback gateway in the foreground, without the daemon. SIGHUP reads the configuration again.

    \b
    Example:
      vx-token gateway
      OPENAI_BASE_URL=http://127.0.0.1:8490/v1 OPENAI_API_KEY=$(vx-token gateway key) aider
    """
    if context.invoked_subcommand is not None:
        return
    hardening.forbid_core_dumps()
    lines = log.Log(log.form("", os.environ))

    changes: dict[str, Any] = {"enabled": True} | ({"access_log": True} if access_log else {})
    if port is not None:
        changes |= {"port": port, "unix_socket": ""}

    def apply() -> None:
        settings = load_config(os.environ)
        serving.apply(settings.with_gateway(**changes), wiring.refresher(settings))
        serving.request_token(settings.default_profile)

    events = _signals()
    serving = GatewayController(lines, controller.activation_sockets(os.environ) if port is None else [])
    apply()
    while _next(events, serving) == signal.SIGHUP:
        try:
            apply()
        except VxTokenError as error:
            lines.event("error", f"the last good configuration stays in force: {error.message} ({error.hint})")
    serving.stop()
    lines.event("info", "stopped")


def _next(events: "queue.SimpleQueue[int]", serving: GatewayController) -> int:
    """The next signal.

    Raises:
        TemporaryError: the gateway does not serve any more.
    """
    while True:
        try:
            return events.get(timeout=NAP)
        except queue.Empty:
            if not serving.alive():
                raise TemporaryError("the gateway has failed", "its log says why; start it again") from None


def _signals() -> "queue.SimpleQueue[int]":
    """The signals that steer the gateway, as they come; a simple queue may be filled from a signal handler."""
    events: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: events.put(received))
    return events


@gateway.command()
def key() -> None:
    """Print the local key, the key command of tools in gateway mode; it is worth nothing outside of this machine.

    \b
    Example:
      export OPENAI_API_KEY="$(vx-token gateway key)"
    """
    click.echo(address.local_key(os.environ))


@gateway.command("rotate-key")
@click.option("--grace", default="1h", show_default=True, metavar="DURATION", help="How long the old key still counts.")
def rotate_key(grace: str) -> None:
    """Make a new local key; tools that hold the old one have until the grace period's end.

    \b
    Example:
      vx-token gateway rotate-key --grace 0s
    """
    seconds = duration.seconds(grace)
    if seconds is None:
        raise click.BadParameter(f"{grace!r} is no duration such as 1h", param_hint="--grace")
    settings = load_config(os.environ)
    address.rotate_key(os.environ, seconds)
    _publish(settings)
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds))
    click.echo(f"there is a new local key; the old one counts until {until}")


def _publish(settings: Config) -> None:
    """Bring the new key to where shells look for it."""
    publisher = wiring.publisher(settings)
    for profile in settings.profiles.values():
        state = publisher.store.read(profile.name)
        if profile.mode == "gateway" and state.attempts:
            publisher.publish(profile, state)


class _Mute(log.Log):
    """Says nothing: the terminal belongs to the command, and its own errors tell what the gateway would."""

    def event(self, level: str, message: str, profile: str = "") -> None:
        """Drop a line."""


def run_behind(settings: Config, refresher: Refresher, profile: Profile, command: tuple[str, ...]) -> int:
    """Run `command` behind a gateway of its own on a free port; its exit status, 128 + N for a signal N.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: there is no token to begin with, or no gateway.
        OSError: the command cannot be started.
    """
    limit = hardening.forbid_own_core_dumps()
    token = refresher.current(profile)
    lines = log.Log() if os.environ.get("VX_TOKEN_DEBUG") else _Mute()
    alone = settings.with_gateway(port=0, unix_socket="")
    serving = controller.new_gateway(alone, refresher, lines)
    # Before the gateway's threads are there, each of which would take a signal that it does not block.
    signal.signal(signal.SIGCHLD, lambda *_: None)  # what is ignored may not be waited for
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    url = address.base_url(settings, profile.name, serving.start().removesuffix("/v1"))
    try:
        variables = exports.variables(profile, token, address.local_key(os.environ), url)
        environ = {**os.environ, **variables, **address.no_proxy_variables(os.environ, settings.gateway.host)}
        return _supervise(command, output.environment(environ), before, limit)
    finally:
        serving.stop()


PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT)
KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
WAITED_FOR = (*PASSED_ON, *KEYBOARD, signal.SIGCHLD)


def _supervise(
    command: tuple[str, ...], environ: dict[bytes, bytes], mask: Iterable[int], limit: tuple[int, int]
) -> int:
    # As nohup sets it, for the child too.
    ignored = {number for number in WAITED_FOR if signal.getsignal(number) is signal.SIG_IGN}
    early: set[int] = signal.sigpending() - ignored
    if early & set(KEYBOARD):
        return 128 + min(early & set(KEYBOARD))
    python_ignores = (signal.SIGPIPE, signal.SIGXFSZ)
    with hardening.core_limit(limit):
        child = os.posix_spawnp(command[0], command, environ, setsigmask=mask, setsigdef=python_ignores)
    while True:
        number, of_the_terminal = _next_signal()
        if number == signal.SIGCHLD:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code: int = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif number not in ignored and not (number in KEYBOARD and of_the_terminal):
            os.kill(child, number)


def _next_signal() -> tuple[int, bool]:
    """The next signal, and whether the terminal sent it: then the whole foreground group has it, the child too."""
    if hasattr(signal, "sigwaitinfo"):
        found = signal.sigwaitinfo(WAITED_FOR)
        return found.si_signo, found.si_code > 0  # sigaction(2): a process's own are at most SI_USER, which is 0
    return signal.sigwait(WAITED_FOR), True  # macOS does not tell who sent it
