"""any-llm."""

from typing import Any

from any_llm import completion

from libraries import DECLARED, MODEL, Ask, in_openai_form


def conversation(stream: bool) -> Ask:
    del stream  # it has no function that joins the pieces

    def complete(messages: list[Any]) -> Any:
        answer: Any = completion(model=MODEL, provider="openai", messages=messages, tools=[DECLARED])
        return answer.choices[0].message

    return in_openai_form(complete)
