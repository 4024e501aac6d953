"""The commands `vx-token endpoints` and `vx-token endpoints use`."""

import os
from typing import TYPE_CHECKING

import click

from vx_token.cli import help as cli_help
from vx_token.cli import lists, output
from vx_token.errors import ConfigError
from vx_token.system import paths

if TYPE_CHECKING:
    from vx_token.vertex.endpoints import Endpoint
    from vx_token.vertex.known import KnownFile
    from vx_token.vertex.lists import Account


@click.group(cls=cli_help.Group, invoke_without_command=True)
@click.option("--profile", metavar="NAME", help="The profile whose project and login are used.")
@click.option(
    "--location", "locations", multiple=True, metavar="NAME", help="A location to ask; may be given several times."
)
@click.option("--all-locations", is_flag=True, help="Ask every region.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def endpoints(
    ctx: click.Context, profile: str | None, locations: tuple[str, ...], all_locations: bool, as_json: bool
) -> None:
    """List deployed endpoints, with their models and base URLs.

    Without `--location`, the profile's region is asked; every region, if the profile's location is none.

    \b
    Example:
      vx-token endpoints
      vx-token endpoints --location us-central1 --location europe-west4
      vx-token endpoints use 1234567890
    """
    from vx_token.config.locations import REGIONS
    from vx_token.report import endpoints as report
    from vx_token.vertex.discover import default_locations, find_endpoints

    if ctx.invoked_subcommand is not None:
        return
    settings, account, file = lists.account(profile)
    asked = REGIONS if all_locations else locations or default_locations(account.place.location)
    lists.warn_unknown(asked)
    found, problems = find_endpoints(account, file, asked, lists.progress("locations"))
    if len(problems) == len(asked):
        raise problems[0].error
    used_by = lists.users(settings)
    if as_json:
        output.show(report.as_json(found, account.place, used_by, problems), nl=False)
        return
    output.show(report.as_text(found, account.place, used_by), nl=False)
    if not found:
        where = asked[0] if len(asked) == 1 else f"{len(asked)} locations"
        output.show(f"the project {account.place.project} has no endpoints in {where}")
    for line in report.problem_lines(problems):
        output.show(line, err=True)


@endpoints.command()
@click.option("--profile", metavar="NAME", help="The profile to change; a new one gets the default profile's login.")
@click.option("--location", metavar="NAME", help="The endpoint's location.  [default: looked up]")
@click.option("--dry-run", is_flag=True, help="Show what would change, but change nothing.")
@click.argument("name", metavar="ID")
def use(name: str, profile: str | None, location: str | None, dry_run: bool) -> None:
    """Make a profile use a deployed endpoint.

    ID is an endpoint's id or its display name. This sets `location` and `endpoint`, and `base_url` for an endpoint
    with a host or routes of its own. The settings `model` and `publisher` are removed, because an endpoint serves
    its own model. The profile's other settings and all comments stay. `openapi` as ID changes the profile back to
    Google's models.

    \b
    Example:
      vx-token endpoints use 1234567890
      vx-token endpoints use 1234567890 --profile tuned
    """
    from vx_token.install import profile_edit

    settings, account, file = lists.account(profile, allow_new=True)
    chosen = profile or account.profile.name
    values: dict[str, str | None]
    if name == "openapi":
        values = {"endpoint": None, "base_url": lists.openapi_url(account)}
    else:
        endpoint = _find(account, file, name, location)
        _check(endpoint)
        values = endpoint.settings(account.place)
    if chosen not in settings.profiles or not settings.path.exists():
        values = lists.login_settings(account.profile) | {"project": account.place.project} | values
    edit = profile_edit.plan(paths.config_file(os.environ), chosen, values, os.environ)
    if edit is None:
        output.show(f"the profile {chosen} uses this endpoint already")
        return
    output.show(str(edit), nl=False)
    if dry_run:
        return
    edit.perform()
    if lines := profile_edit.replaced_lines(edit):
        output.show(
            "\n".join(["replaced lines, which a return to the old settings needs:", *(f"  {line}" for line in lines)])
        )
    option = "" if chosen == settings.default_profile else f" --profile {chosen}"
    output.show(f"test it: vx-token doctor --live{option}")


def _find(account: "Account", file: "KnownFile", name: str, location: str | None) -> "Endpoint":
    """Return the endpoint with this id or display name: from its known location, else from all regions."""
    from vx_token.config.locations import REGIONS
    from vx_token.vertex.discover import find_endpoints

    known = [each.location for each in file.read().of(account.place.project).endpoints if name in (each.id, each.name)]
    asked = [location] if location else known or list(REGIONS)
    lists.warn_unknown(asked)
    found, problems = find_endpoints(account, file, asked, lists.progress("locations"))
    matches = [each for each in found if name == each.id] or [each for each in found if name == each.name]
    if not matches and problems:
        raise problems[0].error
    if len(matches) != 1:
        what = "is no endpoint" if not matches else f"is the name of {len(matches)} endpoints"
        hint = "list them: vx-token endpoints --all-locations"
        raise ConfigError(f"{name} {what} of the project {account.place.project}", hint)
    return matches[0]


def _check(endpoint: "Endpoint") -> None:
    if not endpoint.models:
        hint = "deploy a model to it first, or choose another: vx-token endpoints"
        raise ConfigError(f"no model is deployed at the endpoint {endpoint.id}", hint)
    if endpoint.private:
        hint = "set base_url in the profile to its address in your network: http(s)://ADDRESS/v1/projects/…"
        raise ConfigError(f"the endpoint {endpoint.id} is reached through a private network only", hint)
