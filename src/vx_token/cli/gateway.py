"""The commands `vx-token gateway …` and `exec --gateway`: the loopback gateway without the daemon."""

import os
import queue
import signal
from collections.abc import Iterable
from typing import Any

import click

from vx_token.cli import gateway_keys, output, wiring
from vx_token.cli import help as cli_help
from vx_token.config.load import load_config
from vx_token.config.model import Config, Profile
from vx_token.errors import TemporaryError, VxTokenError
from vx_token.gateway import address, controller
from vx_token.gateway.controller import GatewayController
from vx_token.gateway.key import generate_key
from vx_token.gateway.named_keys import NamedKey
from vx_token.gateway.settings import LocalKey
from vx_token.outputs import exports
from vx_token.system import hardening, log
from vx_token.system.clock import NAP
from vx_token.tokens.refresh import Refresher


@click.group(cls=cli_help.Group, invoke_without_command=True)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The port, instead of the configured one; 0 chooses a free one."
)
@click.option("--access-log", is_flag=True, help="Log one line a request, without bodies and keys.")
@click.pass_context
def gateway(context: click.Context, port: int | None, access_log: bool) -> None:
    """Serve the loopback gateway in the foreground.

    The daemon is not needed. SIGHUP reloads the configuration.

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
        changes |= {"port": port, "unix_socket": "", "listen": ()}

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
    """Wait for the next signal and return its number.

    Raises:
        TemporaryError: the gateway has stopped serving.
    """
    while True:
        try:
            return events.get(timeout=NAP)
        except queue.Empty:
            if not serving.alive():
                raise TemporaryError("the gateway has failed", "see its log, then start it again") from None


def _signals() -> "queue.SimpleQueue[int]":
    """Return a queue of the signals that arrive; only a SimpleQueue may be filled by a signal handler."""
    events: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: events.put(received))
    return events


for command in (gateway_keys.key, gateway_keys.keys, gateway_keys.revoke, gateway_keys.rotate_key, gateway_keys.tail):
    gateway.add_command(command)


class _NullLog(log.Log):
    """Discards all events, because the terminal belongs to the command, which prints the gateway's errors itself."""

    def event(self, level: str, message: str, profile: str = "") -> None:
        """Discard an event."""


def run_behind(settings: Config, refresher: Refresher, profile: Profile, command: tuple[str, ...]) -> int:
    """Run `command` with a private gateway on a free port; return its exit status, 128 + N for a signal N.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: no token can be fetched, or the gateway cannot start.
        OSError: the command cannot be started.
    """
    limit = hardening.forbid_own_core_dumps()
    token = refresher.current(profile)
    lines = log.Log() if os.environ.get("VX_TOKEN_DEBUG") else _NullLog()
    alone = settings.with_gateway(port=0, unix_socket="", listen=())
    key = NamedKey(LocalKey("exec"), generate_key())  # it ends with the command
    serving = controller.new_gateway(alone, refresher, lines, keys=(key,))
    # Blocked before the gateway's threads start, because each thread receives the signals that it does not block.
    signal.signal(signal.SIGCHLD, lambda *_: None)  # an ignored signal is not delivered to sigwaitinfo
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    base = serving.start().removesuffix("/v1")
    url = address.base_url(settings, profile.name, base)
    urls = exports.gateway_urls(settings, profile, lambda each: address.base_url(settings, each.name, base))
    try:
        variables = exports.variables(profile, token, key.value, url, urls)
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
    # Signals that were ignored from the start (nohup) stay ignored for the command, too.
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
    """Wait for a signal; return it, and whether the terminal sent it, which sends it to the child as well."""
    if hasattr(signal, "sigwaitinfo"):
        info = signal.sigwaitinfo(WAITED_FOR)
        return info.si_signo, info.si_code > 0  # sigaction(2): SI_USER is 0, and codes of processes are at most that
    return signal.sigwait(WAITED_FOR), True  # macOS does not give the sender
