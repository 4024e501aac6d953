"""Publisher models, as Model Garden lists them.

The list is wrong in both directions: it contains models that a location does not serve, and omits previews that answer.
Sources: Google's discovery document for aiplatform v1beta1, revision 20261106; public reports for what the list lacks.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from vx_token.errors import printable
from vx_token.vertex.lists import Account, pages

PUBLISHERS = (
    "google", "anthropic", "meta", "mistralai", "qwen", "deepseek-ai", "moonshotai", "minimaxai", "zai-org", "openai",
    "ai21", "xai",
)  # fmt: skip
"""The publishers to ask, because no list of publishers exists."""

_NAME = re.compile(r"publishers/([a-z0-9-]+)/models/([^/\s]+)")


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that a publisher lists.

    Attributes:
        id: publisher and model, as requests name it.
        stage: Google's launch stage, such as `GA` or `PUBLIC_PREVIEW`.
        serverless: whether it answers without being deployed first.
    """

    id: str
    stage: str = ""
    serverless: bool = True


def list_models(account: Account, publisher: str) -> list[ListedModel]:
    """Return the models that a publisher lists; an unknown publisher lists none.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: see `lists.read`.
    """
    place = account.place
    url = f"{place.root_of('global')}/v1beta1/publishers/{quote(publisher, safe='')}/models"
    # No permission is known for this list, so a refusal names the one that requests to models need.
    asked = account.asked(place.location, "the model list", "aiplatform.endpoints.predict", "vx-token models --refresh")
    # The full view, because only it has the template that models have which answer without being deployed.
    documents = pages(account, url, "publisherModels", asked, pageSize="100", view="PUBLISHER_MODEL_VIEW_FULL")
    return [model for model in map(_parse, documents) if model is not None]


def _parse(document: dict[str, Any]) -> ListedModel | None:
    match = _NAME.fullmatch(str(document.get("name", "")))
    if match is None or not match[2].isprintable():
        return None
    actions = document.get("supportedActions")
    to_deploy = isinstance(actions, dict) and bool({"deploy", "multiDeployVertex", "deployGke"} & actions.keys())
    serverless = bool(document.get("publisherModelTemplate")) or not to_deploy
    return ListedModel(f"{match[1]}/{match[2]}", printable(str(document.get("launchStage", ""))), serverless)
