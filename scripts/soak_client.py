"""A stock openai Python client, built once; it knows nothing of gateways. Arguments: requests, seconds, threads."""

import collections
import json
import sys
import threading
import time

import openai

TOTAL, SECONDS, THREADS = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
MESSAGES = [{"role": "user", "content": "Say hello. emulator: chunks=6 delay=0.01"}]
client = openai.OpenAI()
failures: collections.Counter[str] = collections.Counter()


def ask(number: int) -> None:
    """One request, every third one streamed, checked to its very end."""
    if number % 3:
        answer = client.chat.completions.create(model="gemini-2.5-flash", messages=MESSAGES)
        done, text = answer.choices[0].finish_reason, answer.choices[0].message.content
    else:
        chunks = list(client.chat.completions.create(model="gemini-2.5-flash", messages=MESSAGES, stream=True))
        choices = [choice for chunk in chunks for choice in chunk.choices]
        done, text = choices[-1].finish_reason, "".join(choice.delta.content or "" for choice in choices)
    if done != "stop" or not text.startswith("Hello"):
        failures["not whole"] += 1


def work(first: int) -> None:
    """Every so-manyeth request, each at its time."""
    for number in range(first, TOTAL, THREADS):
        time.sleep(max(0.0, started + number * SECONDS / TOTAL - time.monotonic()))
        try:
            ask(number)
        except openai.OpenAIError as error:
            failures[f"{type(error).__name__}: {error}"[:300]] += 1


started = time.monotonic()
workers = [threading.Thread(target=work, args=(first,)) for first in range(THREADS)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
sys.stdout.write(json.dumps({"requests": TOTAL, "failures": dict(failures)}))
