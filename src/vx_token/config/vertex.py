"""Base URLs of Vertex AI's OpenAI-compatible API.

Source: Google's discovery documents for aiplatform v1; `global` has no prefix, `us` and `eu` have hosts of their own.
"""

import re

MULTI_REGIONS = ("us", "eu")


def host(location: str) -> str:
    """Return the API host of a location."""
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def base_url(project: str, location: str, endpoint: str, api_version: str) -> str:
    """Return the base URL, to which tools append `/chat/completions`."""
    place = f"projects/{project}/locations/{location}/endpoints/{endpoint}"
    return f"https://{host(location)}/{api_version}/{place}"


def is_own_endpoint(url: str) -> bool:
    """Whether a base URL is that of a deployed endpoint, not of the API with all of Google's models."""
    return re.search(r"/endpoints/(?!openapi$)[^/]+$", url) is not None
