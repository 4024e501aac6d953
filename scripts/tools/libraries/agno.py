"""Agno's OpenAIChat."""

from agno.agent import Agent
from agno.models.openai import OpenAIChat

from libraries import MODEL, Ask, key, look


def conversation(stream: bool) -> Ask:
    agent = Agent(model=OpenAIChat(id=MODEL, api_key=key()), tools=[look], telemetry=False)

    def ask(prompt: str) -> object:
        if stream:
            return "".join(str(event.content or "") for event in agent.run(prompt, stream=True))
        return agent.run(prompt).content

    return ask
