"""The models of a profile: configured, deployed, listed by Google or probed, joined by id; pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vx_token.config.model import Profile
from vx_token.config.vertex import Place, is_own_endpoint
from vx_token.vertex.known import Known, ProbedModel


@dataclass(frozen=True, slots=True)
class Model:
    """A model, and where its id is from.

    Attributes:
        id: the id that tools send.
        marks: of `configured`, `deployed`, `listed` and `probed`, those that apply.
        upstream: the id that is sent to Vertex AI, when it is another one.
        stage: Google's launch stage, "" when it is not known.
        serverless: False for a model that must be deployed before it answers.
        endpoint: the endpoint at which it is deployed, "" for a model that is called by its id.
        probe: the last probe at the profile's base URL.
    """

    id: str
    marks: tuple[str, ...]
    upstream: str = ""
    stage: str = ""
    serverless: bool = True
    endpoint: str = ""
    probe: ProbedModel | None = None

    @property
    def answers(self) -> bool:
        """Whether a tool should offer it: it is configured, deployed, or has answered a probe."""
        return not {"configured", "deployed"}.isdisjoint(self.marks) or (self.probe is not None and self.probe.ok)


def own_endpoint(profile: Profile) -> str:
    """Return the id of the deployed endpoint in the profile's base URL, "" for Google's models."""
    place = Place.parse(profile.url)
    return place.endpoint if place is not None and is_own_endpoint(profile.url) else ""


def deployed_here(profile: Profile, known: Known) -> list[str]:
    """Return the names of the models at the profile's own endpoint."""
    endpoint = own_endpoint(profile)
    return [model.name for each in known.endpoints if endpoint == each.id for model in each.models]


def upstream_id(profile: Profile, model: Model) -> str:
    """Return the id that the gateway sends for a model; "" for an endpoint's own, which its container accepts."""
    if model.endpoint:
        return ""
    name = model.upstream or model.id
    return f"{profile.prefix}/{name}" if profile.prefix and "/" not in name else name


def join(profile: Profile, known: Known, publishers: Iterable[str] = ()) -> list[Model]:
    """Return the models that requests of this profile can name, each once.

    Args:
        profile: the profile; at a deployed endpoint only the endpoint's own models are called.
        known: what is known of the profile's project.
        publishers: the publishers whose listed models are included.
    """
    models: dict[str, Model] = {}

    def add(model: Model) -> None:
        before = models.get(model.id)
        if before is None:
            models[model.id] = model
        else:
            stage, serverless = before.stage or model.stage, before.serverless and model.serverless
            models[model.id] = replace(before, marks=(*before.marks, *model.marks), stage=stage, serverless=serverless)

    for name in dict.fromkeys([*profile.aliases, *filter(None, [profile.model]), *profile.models]):
        add(Model(name, ("configured",), upstream=profile.aliases.get(name, "")))
    endpoint = own_endpoint(profile)
    for name in deployed_here(profile, known):
        add(Model(name, ("deployed",), endpoint=endpoint))
    wanted = set(publishers) if not endpoint else set()
    for listed in known.listed:
        if listed.id.partition("/")[0] in wanted:
            add(Model(listed.id, ("listed",), stage=listed.stage, serverless=listed.serverless))
    for probed in known.probed:
        if probed.url == profile.url and (probed.ok or probed.id in models):
            add(Model(probed.id, ("probed",)))
            models[probed.id] = replace(models[probed.id], probe=probed)
    return list(models.values())


def offered(profile: Profile, known: Known) -> list[str]:
    """Return the ids that the gateway lists: what answers, and what Google lists of `list_publishers`.

    A listed model that a probe found missing, or that must be deployed first, is not offered.
    """
    models = join(profile, known, profile.list_publishers)
    return [each.id for each in models if each.answers or (each.probe is None and each.serverless)]
