"""LangChain's ChatOpenAI, with a function as its key."""

from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from libraries import MODEL, Ask, key, look


def conversation(stream: bool) -> Ask:
    model = ChatOpenAI(model=MODEL, api_key=key(), max_retries=0).bind_tools([tool(look)])
    messages: list[Any] = []

    def ask(prompt: str) -> object:
        messages.append(HumanMessage(prompt))
        while True:
            answer: Any = reduce(add, model.stream(messages)) if stream else model.invoke(messages)
            messages.append(answer)
            if not answer.tool_calls:
                return answer.text
            messages.extend(ToolMessage(look(**call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls)

    return ask
