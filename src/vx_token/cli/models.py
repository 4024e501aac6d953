"""The command `vx-token models`."""

import sys
import time
from typing import TYPE_CHECKING

import click

from vx_token.cli import help as cli_help
from vx_token.cli import lists, output
from vx_token.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from vx_token.vertex.known import KnownFile
    from vx_token.vertex.lists import Account
    from vx_token.vertex.models import Model


@click.command(cls=cli_help.Command)
@click.option("--profile", metavar="NAME", help="The profile whose models are listed.")
@click.option(
    "--publisher", "publishers", multiple=True, metavar="NAME", help="Only this publisher; may be given several times."
)
@click.option("--probe", is_flag=True, help="Send a tiny completion to each model; count and cost are shown first.")
@click.option("--yes", is_flag=True, help="Probe without a question.")
@click.option("--refresh", is_flag=True, help="Read Google's lists again, even if they are less than an hour old.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def models(
    profile: str | None, publishers: tuple[str, ...], probe: bool, yes: bool, refresh: bool, as_json: bool
) -> None:
    """List the models that requests can name.

    They are configured, deployed at the profile's own endpoint, listed by Google, or probed. Google's lists contain
    models that a location does not serve, and omit some that it does. Only `--probe` shows which models answer; the
    gateway's `/v1/models` then lists them. At a deployed endpoint, only its own models are listed.

    \b
    Example:
      vx-token models
      vx-token models --publisher google --probe
      vx-token models --json | jq -r '.models[] | select(.answers) | .id'
    """
    from vx_token.report import models as report
    from vx_token.report.endpoints import problem_lines
    from vx_token.vertex.discover import ages, find_models
    from vx_token.vertex.models import join, own_endpoint
    from vx_token.vertex.publishers import PUBLISHERS

    _, account, file = lists.account(profile)
    wanted = publishers or PUBLISHERS
    problems = find_models(account, file, wanted, lists.progress("lists"), again=refresh)
    project = account.place.project
    found = join(account.profile, file.read().of(project), wanted)
    if problems and not found:
        raise problems[0].error
    if probe:
        _probe(account, file, found, yes=yes)
        found = join(account.profile, file.read().of(project), wanted)
    known, now = file.read().of(project), time.time()
    old = ages(account.profile, known, wanted, now)
    if as_json:
        output.show(report.as_json(found, account.place, account.profile.name, old, problems), nl=False)
        return
    output.show(report.as_text(found, now), nl=False)
    others = [each for each in known.endpoints if not own_endpoint(account.profile)]
    for line in [*report.notes(found, account.place, old, others), *problem_lines(problems)]:
        output.show(line, err=True)


def _probe(account: "Account", file: "KnownFile", found: "list[Model]", *, yes: bool) -> None:
    from vx_token.report import models as report
    from vx_token.vertex.discover import probe_models
    from vx_token.vertex.lists import error_of

    asked = [each for each in found if each.serverless]
    if not asked:
        raise ConfigError("no model is known that could be probed", "set model or models in the profile")
    output.show(f"probing {report.cost(len(asked), account.place)}", err=True)
    if not yes:
        if not (sys.stdin and sys.stdin.isatty()):
            raise UsageError("--probe asks before it sends requests, but stdin is not a terminal", "add --yes")
        click.confirm("Do this?", default=True, abort=True, err=True)
    failed = probe_models(account, file, asked, lists.progress("models"))
    if len(failed) == len(asked):
        raise error_of(failed[0][1])
    for name, answer in failed:
        output.show(f"vx-token: {name}: {answer.detail}", err=True)
