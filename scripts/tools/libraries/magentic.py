"""Magentic's OpenaiChatModel, which always streams."""

from magentic import Chat, FunctionCall, OpenaiChatModel, UserMessage

from libraries import MODEL, Ask, key, look


def conversation(stream: bool) -> Ask:
    del stream
    chat = Chat([], functions=[look], output_types=[FunctionCall, str], model=OpenaiChatModel(MODEL, api_key=key()))

    def ask(prompt: str) -> object:
        nonlocal chat
        chat = chat.add_message(UserMessage(prompt)).submit()
        while isinstance(chat.last_message.content, FunctionCall):
            chat = chat.exec_function_call().submit()
        return chat.last_message.content

    return ask
