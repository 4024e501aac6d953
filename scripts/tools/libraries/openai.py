"""openai-python, with a function as its key."""

from typing import Any

import openai

from libraries import DECLARED, MODEL, Ask, in_openai_form, key


def conversation(stream: bool) -> Ask:
    return asked_by(openai.OpenAI(api_key=key(), max_retries=0), stream)


def asked_by(client: openai.OpenAI, stream: bool) -> Ask:
    def complete(messages: list[Any]) -> Any:
        asked: dict[str, Any] = {"model": MODEL, "messages": messages, "tools": [DECLARED]}
        if not stream:
            return client.chat.completions.create(**asked).choices[0].message
        with client.chat.completions.stream(**asked) as events:
            return events.get_final_completion().choices[0].message

    return in_openai_form(complete)
