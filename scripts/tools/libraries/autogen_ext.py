"""AutoGen's AssistantAgent and OpenAIChatCompletionClient."""

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelFamily, ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient

from libraries import MODEL, Ask, key_of_async, look


def conversation(stream: bool) -> Ask:
    info = ModelInfo(
        vision=False, function_calling=True, json_output=True, structured_output=True, family=ModelFamily.UNKNOWN
    )
    agent = AssistantAgent(
        "agent", OpenAIChatCompletionClient(model=MODEL, model_info=info, api_key=key_of_async()), tools=[look],
        model_client_stream=stream, max_tool_iterations=5,
    )  # fmt: skip

    async def ask(prompt: str) -> object:
        return (await agent.run(task=prompt)).messages[-1].to_text()

    return ask
