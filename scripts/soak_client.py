"""A stock openai Python client, built once, that knows of no gateway. Arguments: requests, seconds, lanes, retries."""

import collections
import json
import sys
import threading
import time

import openai

TOTAL, SECONDS, LANES, RETRIES = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
MESSAGES = [{"role": "user", "content": "Say hello. emulator: chunks=6 delay=0.01"}]
client = openai.OpenAI(max_retries=RETRIES)
answers: collections.Counter[int] = collections.Counter()
broken: collections.Counter[str] = collections.Counter()


def ask(number: int) -> None:
    """One request, every third one streamed, checked to its very end."""
    if number % 3:
        answer = client.chat.completions.create(model="gemini-2.5-flash", messages=MESSAGES)
        done, text = answer.choices[0].finish_reason, answer.choices[0].message.content
    else:
        chunks = list(client.chat.completions.create(model="gemini-2.5-flash", messages=MESSAGES, stream=True))
        choices = [choice for chunk in chunks for choice in chunk.choices]
        done, text = choices[-1].finish_reason, "".join(choice.delta.content or "" for choice in choices)
    answers[200] += 1
    if done != "stop" or not text.startswith("Hello"):
        broken["not whole"] += 1


def work(first: int) -> None:
    """Every so-manyeth request, each at its time."""
    for number in range(first, TOTAL, LANES):
        time.sleep(max(0.0, started + number * SECONDS / TOTAL - time.monotonic()))
        try:
            ask(number)
        except openai.APIStatusError as error:
            answers[error.status_code] += 1
        except openai.OpenAIError as error:
            broken[f"{error} {error.__cause__!r}"[:300]] += 1


started = time.monotonic()
workers = [threading.Thread(target=work, args=(first,)) for first in range(LANES)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
sys.stdout.write(json.dumps({"client": "openai-python", "answers": answers, "broken": broken}))
