"""A step for pods, which does what its inputs say. It lies here as text: pods import it as the package `scripted`."""

import os
import sys
import time
from pathlib import Path

from include.errors import UserError
from include.steps.entry import StepContext, main


def work(context: StepContext) -> dict[str, object]:
    inputs, document = context.document.inputs, context.document
    trainer = document.adjustment.trainer(document.model_spec.trainer)
    print("working with batches of", trainer.batch_size, flush=True)
    how, seconds = inputs["how"], inputs.get("seconds", 0)
    if how == "memory" and trainer.batch_size > inputs["fits"]:
        held = bytearray(2**30)
        held[:: 2**12] = b"x" * len(held[:: 2**12])
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        number += 1
        context.progress(number, seconds * 2, "steps", loss=1 / number)
        time.sleep(0.5)
    if how == "user":
        raise UserError("the learning rate is -1", where="hyperparameters.learning_rate", hint="make it positive")
    if how == "exit":
        print("a library's last words", flush=True)
        os._exit(inputs["code"])
    for line in range(inputs.get("lines", 0)):
        print(f"line {line}", flush=line % 100 == 0)
    if how == "looks":
        return {"uid": os.getuid(), "writes": writes(), "env": sorted(os.environ), "shm": shared_memory()}
    return {"batch_size": trainer.batch_size}


def writes() -> dict[str, bool]:
    """Where it can write."""
    places = ("/", "/usr", "/tmp", os.environ["HOME"], os.environ["WINDTUNNEL_HOME"], "/dev/shm")
    return {place: _can_write(place) for place in places}


def shared_memory() -> int:
    """Bytes of /dev/shm."""
    found = os.statvfs("/dev/shm")
    return found.f_blocks * found.f_frsize


def _can_write(place: str) -> bool:
    try:
        Path(place, "probe").write_text("x")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main({"fit": "scripted.__main__:work"}, "scripted"))
