"""LlamaIndex: a FunctionAgent with OpenAILike."""

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.workflow import Context
from llama_index.llms.openai_like import OpenAILike

from libraries import MODEL, Ask, look


def conversation(stream: bool) -> Ask:
    model = OpenAILike(model=MODEL, is_chat_model=True, is_function_calling_model=True, max_retries=0)
    agent = FunctionAgent(tools=[look], llm=model, streaming=stream)
    context = Context(agent)

    async def ask(prompt: str) -> object:
        return await agent.run(prompt, ctx=context)

    return ask
