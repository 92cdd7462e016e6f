"""Users as a process of their own: they ask without a pause, and write down who answered whom.

    python -m tests.fakes.asker URL FAMILY FILE --rate 100 --units 300

Every line of FILE is one request: `sent` and `at` (seconds since the epoch), `unit`, `status` (0: no answer), and of an
answer `generation`, `version`, `digest`, `role`. On SIGTERM it waits for what is under way.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import time
from pathlib import Path
from typing import Any, TextIO

import httpx


async def ask(client: httpx.AsyncClient, family: str, number: int, units: int, out: TextIO) -> None:
    unit, sent = f"u{number * 7919 % units}", time.time()
    body = {"family": family, "unit_id": unit, "inputs": {"question": f"what does rule number {number} say"}}
    line: dict[str, Any] = {"sent": sent, "unit": unit, "status": 0}
    try:
        response = await client.post("/v1/ask", json=body)
        line["status"] = response.status_code
        if response.status_code == 200:
            answer = response.json()
            line |= {"generation": answer["generation"], "version": answer["model_version"]}
            line |= {"digest": answer["model_digest"], "role": answer["variant"]}
    except httpx.HTTPError as error:
        line["error"] = repr(error)
    out.write(json.dumps({**line, "at": time.time()}) + "\n")


async def run(url: str, family: str, file: Path, rate: float, units: int) -> None:
    stop, under_way = asyncio.Event(), set[asyncio.Task[None]]()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        with file.open("w", buffering=1) as out:
            began = time.monotonic()
            for number in itertools.count():
                if stop.is_set():
                    break
                task = asyncio.create_task(ask(client, family, number, units, out))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
            await asyncio.gather(*under_way)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("family")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--units", type=int, default=300)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.url, arguments.family, arguments.file, arguments.rate, arguments.units))


if __name__ == "__main__":
    main()
