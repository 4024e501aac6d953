"""Python libraries in a conversation with tool calls, one file each, used as their own documentation shows.

Each file has `conversation(stream)`, which returns a function that asks one question and returns the answer. A library
finds its key and URL in the environment. This file has what they share.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

KEY, URL, MODEL = (os.environ.get(name, "") for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"))
DECLARED: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
Ask = Callable[[str], Awaitable[object] | object]


def key() -> Any:
    """Return a function that runs the key command, or else the key."""
    command = os.environ.get("KEY_COMMAND", "").split()
    return (lambda: subprocess.check_output(command, text=True).strip()) if command else KEY


def key_of_async() -> Any:
    """Return the same for a client that is asynchronous."""
    read = key()

    async def run() -> str:
        return str(await asyncio.to_thread(read))

    return run if callable(read) else read


def look(place: str) -> str:
    """Look at a place.

    Args:
        place: the place.
    """
    return f"{place} is green"


def in_openai_form(complete: Callable[[list[Any]], Any]) -> Ask:
    """Return a function that asks by a list of OpenAI's messages, for which `complete` returns the model's next one."""
    messages: list[Any] = []

    def ask(prompt: str) -> str:
        messages.append({"role": "user", "content": prompt})
        while True:
            message = complete(messages)
            messages.append(message)
            if not message.tool_calls:
                return str(message.content)
            for call in message.tool_calls:
                result = look(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

    return ask
