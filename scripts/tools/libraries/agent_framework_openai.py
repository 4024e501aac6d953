"""Microsoft's Agent Framework, with Chat Completions."""

from agent_framework import Agent
from agent_framework.openai import OpenAIChatCompletionClient

from libraries import MODEL, Ask, key_of_async, look


def conversation(stream: bool) -> Ask:
    agent = Agent(client=OpenAIChatCompletionClient(model=MODEL, api_key=key_of_async()), tools=[look])
    session = agent.create_session()

    async def ask(prompt: str) -> object:
        if stream:
            return "".join([update.text async for update in agent.run(prompt, session=session, stream=True)])
        return await agent.run(prompt, session=session)

    return ask
