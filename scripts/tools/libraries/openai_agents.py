"""OpenAI's Agents SDK, with Chat Completions and without its tracing, which goes to api.openai.com."""

from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

from libraries import MODEL, Ask, key_of_async, look


def conversation(stream: bool) -> Ask:
    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel(MODEL, AsyncOpenAI(api_key=key_of_async(), max_retries=0))
    agent = Agent(name="agent", model=model, tools=[function_tool(look)])
    history: list[Any] = []

    async def ask(prompt: str) -> object:
        asked = [*history, {"role": "user", "content": prompt}]
        if stream:
            result: Any = Runner.run_streamed(agent, asked)
            async for _ in result.stream_events():
                pass
        else:
            result = await Runner.run(agent, asked)
        history[:] = result.to_input_list()
        return result.final_output

    return ask
