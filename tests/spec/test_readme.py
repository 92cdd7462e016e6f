"""What the README shows of a spec is one that can be used."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from include.spec.training import TrainerSpec

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_trainers_options_are_as_the_readme_shows_them() -> None:
    [shown] = [block for block in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.S) if "trainer:" in block]
    spec = TrainerSpec.model_validate(yaml.safe_load(shown)["trainer"])
    assert spec.transfer.unfreeze[1].after_steps == 400
    assert spec.teacher is not None
