"""LiteLLM's proxy, which openai-python asks."""

import atexit
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openai

from libraries import MODEL, Ask
from libraries.openai import asked_by

CONFIG = f"""
model_list:
  - model_name: {MODEL}
    litellm_params:
      model: openai/{MODEL}
      api_base: os.environ/OPENAI_BASE_URL
      api_key: os.environ/OPENAI_API_KEY
"""
URL = "http://127.0.0.1:4000"


def conversation(stream: bool) -> Ask:
    config, master = Path("config.yaml"), f"sk-{secrets.token_hex(32)}"
    config.write_text(CONFIG)
    command = ["litellm", "--config", str(config), "--host", "127.0.0.1", "--port", "4000"]
    proxy = subprocess.Popen(command, env={**os.environ, "LITELLM_MASTER_KEY": master}, stdout=subprocess.DEVNULL)
    atexit.register(proxy.terminate)
    while not ready():
        if proxy.poll() is not None:
            sys.exit("the proxy has ended")
        time.sleep(0.2)
    return asked_by(openai.OpenAI(base_url=URL, api_key=master, max_retries=0), stream)


def ready() -> bool:
    try:
        return httpx.get(f"{URL}/health/readiness").is_success
    except httpx.HTTPError:
        return False
