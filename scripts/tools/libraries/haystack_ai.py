"""Haystack's OpenAIChatGenerator."""

from typing import Any

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool

from libraries import DECLARED, MODEL, Ask, look


def conversation(stream: bool) -> Ask:
    tools = [Tool("look", "Look at a place.", DECLARED["function"]["parameters"], look)]
    callback = (lambda _: None) if stream else None
    generator = OpenAIChatGenerator(model=MODEL, tools=tools, streaming_callback=callback, max_retries=0)
    messages: list[Any] = []

    def ask(prompt: str) -> object:
        messages.append(ChatMessage.from_user(prompt))
        while True:
            answer = generator.run(messages)["replies"][0]
            messages.append(answer)
            if not answer.tool_calls:
                return answer.text
            messages.extend(ChatMessage.from_tool(look(**call.arguments), origin=call) for call in answer.tool_calls)

    return ask
