"""Google's Agent Development Kit with its LiteLlm model."""

from google.adk import Agent, Runner
from google.adk.models.lite_llm import LiteLlm
from google.adk.sessions import InMemorySessionService
from google.genai.types import Content, Part

from libraries import MODEL, Ask, look


def conversation(stream: bool) -> Ask:
    del stream
    agent = Agent(name="agent", model=LiteLlm(f"openai/{MODEL}"), tools=[look])
    sessions = InMemorySessionService()
    runner = Runner(agent=agent, app_name="app", session_service=sessions)

    async def ask(prompt: str) -> object:
        if not await sessions.get_session(app_name="app", user_id="user", session_id="session"):
            await sessions.create_session(app_name="app", user_id="user", session_id="session")
        message = Content(role="user", parts=[Part(text=prompt)])
        events = [event async for event in runner.run_async(user_id="user", session_id="session", new_message=message)]
        return events[-1].content.parts[0].text

    return ask
