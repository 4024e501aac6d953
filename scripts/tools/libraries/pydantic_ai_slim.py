"""Pydantic AI."""

from typing import Any

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from libraries import MODEL, Ask, key_of_async, look


def conversation(stream: bool) -> Ask:
    model = OpenAIChatModel(
        MODEL, provider=OpenAIProvider(openai_client=AsyncOpenAI(api_key=key_of_async(), max_retries=0))
    )
    agent = Agent(model, tools=[look])
    history: list[Any] = []

    async def ask(prompt: str) -> object:
        if stream:
            async with agent.run_stream(prompt, message_history=history) as result:
                answer = await result.get_output()
                history[:] = result.all_messages()
                return answer
        done = await agent.run(prompt, message_history=history)
        history[:] = done.all_messages()
        return done.output

    return ask
