"""LiteLLM as a library."""

from typing import Any

import litellm

from libraries import DECLARED, MODEL, URL, Ask, in_openai_form


def conversation(stream: bool) -> Ask:
    def complete(messages: list[Any]) -> Any:
        answer: Any = litellm.completion(
            f"openai/{MODEL}", messages, tools=[DECLARED], stream=stream, max_retries=0, api_base=URL
        )
        if stream:
            answer = litellm.stream_chunk_builder(list(answer), messages=messages)
        return answer.choices[0].message

    return in_openai_form(complete)
