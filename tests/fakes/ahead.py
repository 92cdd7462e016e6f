"""What a warm server of the tests imports ahead: it notes who imported it."""

import os
from pathlib import Path

with (Path(os.environ["TEST_IMPORTS"])).open("a") as file:
    file.write(f"{os.getpid()}\n")
os.environ["TEST_SET_BY_IMPORT"] = "yes"
