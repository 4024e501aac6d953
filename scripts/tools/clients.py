"""Asks a Python library each line of the input and prints its answers: `clients.py PACKAGE plain|stream`."""

import asyncio
import importlib
import inspect
import re
import sys


def main(package: str, way: str) -> None:
    library = importlib.import_module("libraries." + re.sub(r"\W+", "_", package).strip("_"))
    ask = library.conversation(way == "stream")
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            answer = ask(line.strip())
            print(runner.run(answer) if inspect.iscoroutine(answer) else answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
