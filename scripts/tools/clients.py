"""Python libraries in one conversation with tool calls: `clients.py NAME plain|stream` prints an answer to each line.

Key and URL are what a library finds in the environment; the model is OPENAI_MODEL.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

KEY, URL, MODEL = (os.environ.get(name, "") for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"))
DECLARED = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


def prompts() -> Iterator[str]:
    return (line.strip() for line in sys.stdin)


def key() -> Any:
    """Return a function that runs the key command, or else the key."""
    command = os.environ.get("KEY_COMMAND", "").split()
    return (lambda: subprocess.check_output(command, text=True).strip()) if command else KEY


def look(place: str) -> str:
    """Look at a place.

    Args:
        place: the place.
    """
    return f"{place} is green"


def openai_python(stream: bool) -> None:
    import openai

    client = openai.OpenAI(api_key=key(), max_retries=0)
    messages: list[Any] = []
    for prompt in prompts():
        messages.append({"role": "user", "content": prompt})
        while True:
            asked: dict[str, Any] = {"model": MODEL, "messages": messages, "tools": [DECLARED]}
            if stream:
                with client.chat.completions.stream(**asked) as events:
                    message = events.get_final_completion().choices[0].message
            else:
                message = client.chat.completions.create(**asked).choices[0].message
            messages.append(message)
            if not message.tool_calls:
                break
            for call in message.tool_calls:
                result = look(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        print(message.content)


def openai_agents(stream: bool) -> None:
    from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel(MODEL, AsyncOpenAI(max_retries=0))
    agent = Agent(name="agent", model=model, tools=[function_tool(look)])

    async def run() -> None:
        history: list[Any] = []
        for prompt in prompts():
            asked = [*history, {"role": "user", "content": prompt}]
            if stream:
                result: Any = Runner.run_streamed(agent, asked)
                async for _ in result.stream_events():
                    pass
            else:
                result = await Runner.run(agent, asked)
            history = result.to_input_list()
            print(result.final_output)

    asyncio.run(run())


def pydantic_ai(stream: bool) -> None:
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=AsyncOpenAI(max_retries=0)))
    agent = Agent(model, tools=[look])

    async def run() -> None:
        history: list[Any] = []
        for prompt in prompts():
            if stream:
                async with agent.run_stream(prompt, message_history=history) as result:
                    print(await result.get_output())
                    history = result.all_messages()
            else:
                done = await agent.run(prompt, message_history=history)
                print(done.output)
                history = done.all_messages()

    asyncio.run(run())


def langchain_openai(stream: bool) -> None:
    from functools import reduce
    from operator import add

    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, api_key=key(), max_retries=0).bind_tools([tool(look)])
    messages: list[Any] = []
    for prompt in prompts():
        messages.append(HumanMessage(prompt))
        while True:
            answer: Any = reduce(add, model.stream(messages)) if stream else model.invoke(messages)
            messages.append(answer)
            if not answer.tool_calls:
                break
            messages += [ToolMessage(look(**call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
        print(answer.text)


def haystack_ai(stream: bool) -> None:
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.tools import Tool

    tools = [Tool("look", "Look at a place.", DECLARED["function"]["parameters"], look)]  # type: ignore[index]
    callback = (lambda _: None) if stream else None
    generator = OpenAIChatGenerator(model=MODEL, tools=tools, streaming_callback=callback, max_retries=0)
    messages: list[Any] = []
    for prompt in prompts():
        messages.append(ChatMessage.from_user(prompt))
        while True:
            answer = generator.run(messages)["replies"][0]
            messages.append(answer)
            if not answer.tool_calls:
                break
            messages += [ChatMessage.from_tool(look(**call.arguments), origin=call) for call in answer.tool_calls]
        print(answer.text)


def litellm(stream: bool) -> None:
    import litellm as lite

    messages: list[Any] = []
    for prompt in prompts():
        messages.append({"role": "user", "content": prompt})
        while True:
            answer: Any = lite.completion(
                f"openai/{MODEL}", messages, tools=[DECLARED], stream=stream, max_retries=0, api_base=URL
            )
            if stream:
                answer = lite.stream_chunk_builder(list(answer), messages=messages)
            message = answer.choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            if not message.tool_calls:
                break
            for call in message.tool_calls:
                result = look(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        print(message.content)


def strands_agents(stream: bool) -> None:
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel

    del stream  # it always streams
    model = OpenAIModel(client_args={"api_key": KEY, "base_url": URL, "max_retries": 0}, model_id=MODEL)
    agent = Agent(model=model, tools=[tool(look)], callback_handler=None)
    for prompt in prompts():
        print(agent(prompt))


CLIENTS: dict[str, Callable[[bool], None]] = {
    "openai": openai_python,
    "openai-agents": openai_agents,
    "pydantic-ai-slim": pydantic_ai,
    "langchain-openai": langchain_openai,
    "haystack-ai": haystack_ai,
    "litellm": litellm,
    "strands-agents": strands_agents,
}

if __name__ == "__main__":
    CLIENTS[sys.argv[1]](sys.argv[2] == "stream")
