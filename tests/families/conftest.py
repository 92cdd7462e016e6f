"""A package of each kind, made once: on a small rulebook, with the encoder as it came and with it trained a little."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from include.families.compliance_qa.config import ModelConfig
from include.families.compliance_qa.prepared import Prepared, prepare
from tests.fakes.small_rulebook import SmallRulebook

CONFIG = ModelConfig(freeze_layers=5, max_question_tokens=24, max_passage_tokens=40, max_train_tokens=40)


@dataclass(frozen=True)
class Packages:
    """Folders of packages, and what their exports said."""

    dataset: SmallRulebook
    prepared: Prepared
    trained: Path
    bm25: Path
    weights: Path
    facts: dict[str, Any]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packages]:
    import torch
    from safetensors.torch import save_file

    from include.families.compliance_qa.encoder import load_encoder
    from include.families.compliance_qa.export import export_bm25, export_trained

    root = tmp_path_factory.mktemp("packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDTUNNEL_HOME", str(root / "home"))
        dataset = SmallRulebook()
        prepared = prepare(CONFIG, dataset)
        generator = torch.Generator().manual_seed(0)
        state = {
            f"encoder.{name}": value.detach() + 0.01 * torch.randn(value.shape, generator=generator)
            for name, value in load_encoder(CONFIG).learning().items()
        }
        weights = root / "best.safetensors"
        save_file(state, weights)
        folders = {name: root / name for name in ("trained", "bm25")}
        for folder in folders.values():
            folder.mkdir()
        facts = export_trained(prepared, weights, folders["trained"])
        export_bm25(prepared, folders["bm25"])
        yield Packages(dataset, prepared, folders["trained"], folders["bm25"], weights, facts)
