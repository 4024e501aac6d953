"""Strands Agents, which always streams."""

from strands import Agent, tool
from strands.models.openai import OpenAIModel

from libraries import MODEL, URL, Ask, key_of_async, look


def conversation(stream: bool) -> Ask:
    del stream
    model = OpenAIModel(client_args={"api_key": key_of_async(), "base_url": URL, "max_retries": 0}, model_id=MODEL)
    return Agent(model=model, tools=[tool(look)], callback_handler=None)
