"""DSPy's language model, without its cache."""

import dspy

from libraries import MODEL, Ask


def conversation(stream: bool) -> Ask:
    del stream
    model = dspy.LM(f"openai/{MODEL}", cache=False)
    return lambda prompt: model(prompt)[0]
