"""CrewAI: an agent without a crew."""

from crewai import LLM, Agent
from crewai.tools import tool

from libraries import MODEL, Ask, look


def conversation(stream: bool) -> Ask:
    model = LLM(model=MODEL, provider="openai", stream=stream)
    agent = Agent(role="guide", goal="Describe places", backstory="You look.", llm=model, tools=[tool(look)])
    return lambda prompt: agent.kickoff(prompt).raw
