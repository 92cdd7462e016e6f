"""Set-up of a fresh checkout: `python3.11 -m include.embedded.install .venv`, called by make.

Makes a virtual environment and installs the project into it, pinned by constraints.txt. uv does it in a fraction of
pip's time; it does not read pip's configuration, so that is handed over, and where uv cannot be had or fails, pip does
it. Only the standard library is used, and nothing that an older Python could not read: the version check must speak.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WANTED = (3, 11)
FREE_BYTES = 8_000_000_000
REQUIREMENTS = ["-c", "constraints.txt", "-e", ".[dev]"]


class SetupError(Exception):
    """A step of the set-up failed; the text says which and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Sets up the environment in the folder that the first argument names."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    venv = Path(arguments[0]) if arguments else ROOT / ".venv"
    try:
        check_python(sys.version_info[:2])
        check_disk(ROOT)
        make_venv(venv)
        install(venv)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    return 0


def check_python(version: Sequence[int]) -> None:
    """Raises `SetupError` unless the version is the one that the constraints were made for."""
    if tuple(version) != WANTED:
        raise SetupError(
            f"Python 3.11 is needed, and {sys.executable} is {version[0]}.{version[1]}\n"
            "  what to do: name one: make PYTHON=/path/to/python3.11"
        )


def check_disk(folder: Path, needed: int = FREE_BYTES) -> None:
    """Warns where the libraries may not fit."""
    free = shutil.disk_usage(str(folder)).free
    if free < needed:
        print(f"set-up: only {free / 1e9:.1f} GB of disk are free; the libraries may need 8 GB", flush=True)


def make_venv(venv: Path) -> None:
    """A virtual environment with pip in `venv`; one that works is kept."""
    if works(venv):
        return
    print(f"set-up: making a virtual environment in {venv}", flush=True)
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(venv)]) != 0:
        raise SetupError(
            "the virtual environment could not be made (see above)\n"
            "  what to do: on Debian and Ubuntu: apt install python3.11-venv; then run make again"
        )


def works(venv: Path) -> bool:
    """Whether `venv` holds a Python of the wanted version that can run pip."""
    python = venv / "bin" / "python"
    if not python.exists():
        return False
    test = f"import pip, sys; sys.exit(sys.version_info[:2] != {WANTED})"
    return subprocess.call([str(python), "-c", test], stderr=subprocess.DEVNULL) == 0


def install(venv: Path) -> None:
    """Installs the project with its development tools."""
    python = str(venv / "bin" / "python")
    print("set-up: installing (some minutes the first time)", flush=True)
    if get_uv(venv):
        command = [str(venv / "bin" / "uv"), "pip", "install", "--compile-bytecode", "--python", python, *REQUIREMENTS]
        if subprocess.call(command, cwd=str(ROOT), env=uv_environment(os.environ, pip_configuration(python))) == 0:
            return
        print("set-up: uv could not install everything; pip tries", flush=True)
    if subprocess.call([python, "-m", "pip", "install", *REQUIREMENTS], cwd=str(ROOT)) != 0:
        raise SetupError(
            "the installation failed (see above)\n"
            "  what to do: check the network and the disk (df -h .), then run make again: what is installed stays.\n"
            f"  To start from nothing: rm -rf {venv}"
        )


def get_uv(venv: Path) -> bool:
    """Installs uv into the environment; False where it cannot be had."""
    python = str(venv / "bin" / "python")
    subprocess.call([python, "-m", "pip", "install", "--quiet", "uv"], cwd=str(ROOT))
    return (venv / "bin" / "uv").exists()


def pip_configuration(python: str) -> dict[str, str]:
    """What pip is configured to use: `index-url`, `extra-index-url`, `find-links`, `cert`, where they are set."""
    result = subprocess.run(
        [python, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    return parse_configuration(result.stdout.decode("utf-8", "replace").splitlines())


def parse_configuration(lines: list[str]) -> dict[str, str]:
    """Reads `pip config list`: lines such as `global.index-url='...'`; the environment (`:env:`) wins."""
    found: dict[str, str] = {}
    for line in sorted(lines, key=lambda text: text.startswith(":env:")):
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2].strip()
        if key in ("index-url", "extra-index-url", "find-links", "cert"):
            found[key] = value.strip().strip("'\"").replace("\\n", " ").strip()
    return found


def uv_environment(environ: Mapping[str, str], configuration: Mapping[str, str]) -> dict[str, str]:
    """The environment in which uv uses what pip is configured to use; uv's own variables win."""
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
    }
    given = {names[key]: value for key, value in configuration.items() if value}
    # pip takes a package from whichever index has it, and so must uv for a pinned set to resolve alike
    defaults = {"UV_HTTP_TIMEOUT": "300", "UV_LINK_MODE": "copy", "UV_INDEX_STRATEGY": "unsafe-best-match"}
    return {**defaults, **given, **environ}


if __name__ == "__main__":
    raise SystemExit(main())
