"""All tools that `vx-token connect` knows, by name."""

from vx_token.errors import UsageError, did_you_mean
from vx_token.tools import edited, printed
from vx_token.tools.model import Tool

TOOLS = {tool.name: tool for tool in sorted([*edited.TOOLS, *printed.TOOLS], key=lambda tool: tool.name)}


def find(name: str) -> Tool:
    """Return the tool of this name.

    Raises:
        UsageError: there is none.
    """
    if tool := TOOLS.get(name.lower()):
        return tool
    hint = f"{did_you_mean(name.lower(), TOOLS)}see: vx-token connect --list"
    raise UsageError(f"vx-token does not know the tool {name!r}", hint)
