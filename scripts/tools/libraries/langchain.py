"""LangChain's agent, a graph of LangGraph."""

from typing import Any

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model

from libraries import MODEL, Ask, key, look


def conversation(stream: bool) -> Ask:
    agent = create_agent(init_chat_model(f"openai:{MODEL}", api_key=key(), max_retries=0), tools=[look])
    messages: list[Any] = []

    def ask(prompt: str) -> object:
        asked: Any = {"messages": [*messages, {"role": "user", "content": prompt}]}
        states = agent.stream(asked, stream_mode="values") if stream else [agent.invoke(asked)]
        messages[:] = list(states)[-1]["messages"]
        return messages[-1].text

    return ask
