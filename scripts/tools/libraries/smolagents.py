"""smolagents: a ToolCallingAgent with OpenAIModel."""

from smolagents import OpenAIModel, ToolCallingAgent, tool

from libraries import MODEL, URL, Ask, key, look


def conversation(stream: bool) -> Ask:
    model = OpenAIModel(MODEL, api_base=URL, api_key=key())
    agent = ToolCallingAgent(tools=[tool(look)], model=model, max_steps=3, stream_outputs=stream)
    return lambda prompt: agent.run(prompt, reset=False)
