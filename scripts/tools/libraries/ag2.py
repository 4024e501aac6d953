"""AG2."""

from typing import Any

from ag2 import Agent, tool
from ag2.config import OpenAIConfig

from libraries import MODEL, Ask, key_of_async, look


def conversation(stream: bool) -> Ask:
    agent: Any = Agent(
        "agent", config=OpenAIConfig(model=MODEL, api_key=key_of_async(), streaming=stream), tools=[tool(look)]
    )

    async def ask(prompt: str) -> object:
        nonlocal agent
        agent = await agent.ask(prompt)  # a reply, which is asked again
        return agent.body

    return ask
