"""Instructor, which lets the model call a function for its answer."""

from typing import Any

import instructor
from openai import OpenAI
from pydantic import BaseModel

from libraries import MODEL, Ask, key


class Place(BaseModel):
    """A place."""

    name: str


def conversation(stream: bool) -> Ask:
    client = instructor.from_openai(OpenAI(api_key=key(), max_retries=0))
    messages: list[Any] = []

    def ask(prompt: str) -> object:
        messages.append({"role": "user", "content": prompt})
        asked: dict[str, Any] = {"model": MODEL, "messages": messages, "max_retries": 0}
        if stream:
            return list(client.chat.completions.create_partial(response_model=Place, **asked))[-1]
        return client.chat.completions.create(response_model=Place, **asked)

    return ask
