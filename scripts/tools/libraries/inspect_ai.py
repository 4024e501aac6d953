"""Inspect's models of an OpenAI-compatible API."""

from typing import Any

from inspect_ai.model import ChatMessageUser, execute_tools, get_model
from inspect_ai.tool import Tool, tool

from libraries import MODEL, Ask, look


@tool(name="look")
def looking() -> Tool:
    async def execute(place: str) -> str:
        """Look at a place.

        Args:
            place: the place.
        """
        return look(place)

    return execute


def conversation(stream: bool) -> Ask:
    del stream
    model = get_model(f"openai-api/openai/{MODEL}")
    messages: list[Any] = []

    async def ask(prompt: str) -> object:
        messages.append(ChatMessageUser(content=prompt))
        while True:
            output = await model.generate(messages, tools=[looking()])
            messages.append(output.message)
            if not output.message.tool_calls:
                return output.completion
            messages.extend((await execute_tools(messages, [looking()])).messages)

    return ask
