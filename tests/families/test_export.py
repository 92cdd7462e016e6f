"""Exports: the same bytes for the same weights, equal to torch, and refused when they are not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from include.families.compliance_qa import export as export_module
from include.families.compliance_qa.embedding import embed, passage_embeddings
from include.families.compliance_qa.encoder import EncoderError, load_encoder, locate
from include.families.compliance_qa.export import ParityError, export_onnx, export_trained
from include.families.compliance_qa.runtime import RetrievalRuntime
from include.serving.package import PackageError, seal, verify
from include.settings import Settings
from tests.families.conftest import CONFIG, Packages

CODE = "include.families.compliance_qa.family:ComplianceQA"


def test_the_same_weights_give_the_same_digest(packages: Packages, tmp_path: Path, settings: Settings) -> None:
    export_trained(packages.prepared, packages.weights, tmp_path)
    again = seal(tmp_path, "compliance_qa", CODE, {})
    copy = tmp_path.parent / "copy"
    shutil.copytree(packages.trained, copy)
    assert again.digest == seal(copy, "compliance_qa", CODE, {"other": "facts"}).digest
    verify(tmp_path, again.digest)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PackageError, match="altered"):
        verify(tmp_path, again.digest)


def test_onnx_equals_torch_for_any_batch_and_length(packages: Packages) -> None:
    assert packages.facts["parity_max_abs_difference"] < 1e-5
    assert packages.facts["parity_same_top_1"] == 1.0
    encoder = load_encoder(CONFIG)
    state = {name.removeprefix("encoder."): value for name, value in load_file(packages.weights).items()}
    encoder.load_state_dict(state, strict=False)
    runtime = RetrievalRuntime(packages.trained)
    texts = ["a", "What happens if the luggage tag is late?", *packages.prepared.validation.texts]
    ids = runtime._encoder._tokenizer.encode_batch(texts)  # type: ignore[union-attr]
    expected = embed(encoder, [np.array(one.ids) for one in ids])
    assert np.abs(runtime.embed(texts) - expected).max() < 1e-5
    assert np.linalg.norm(runtime.embed(texts), axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)


def test_an_export_that_differs_is_refused(
    packages: Packages, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(encoder: torch.nn.Module, path: Path) -> None:
        with torch.no_grad():
            next(iter(encoder.learning().values())).mul_(1.5)  # type: ignore[operator]
        export_onnx(encoder, path)  # type: ignore[arg-type]

    monkeypatch.setattr(export_module, "export_onnx", wrong)
    with pytest.raises(ParityError, match="ONNX differs from torch"):
        export_trained(packages.prepared, packages.weights, tmp_path)


def test_weights_of_another_architecture_are_refused(packages: Packages, tmp_path: Path, settings: Settings) -> None:
    state = load_file(packages.weights)
    state.pop(min(state))
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(ParityError, match="do not fit"):
        export_trained(packages.prepared, tmp_path / "odd.safetensors", tmp_path)


def test_the_encoder_is_checked_before_it_is_read(tmp_path: Path) -> None:
    source = locate(CONFIG.encoder, CONFIG.sha256)
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(source / name, tmp_path)
    with pytest.raises(EncoderError, match=r"no model\.safetensors"):
        locate(str(tmp_path), CONFIG.sha256)
    (tmp_path / "model.safetensors").write_bytes(b"not the weights that were reviewed")
    with pytest.raises(EncoderError, match="sha256"):
        locate(str(tmp_path), CONFIG.sha256)
    with pytest.raises(EncoderError, match="no package"):
        locate("package:no_such_package_here", CONFIG.sha256)
    with pytest.raises(EncoderError, match="there is no encoder"):
        locate("no-such-organisation/no-such-model", CONFIG.sha256)


def test_passage_embeddings_are_computed_once_and_survive_a_damaged_cache(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["The Harbour Bond is kept.", "Salvage is levied."]
    first = passage_embeddings(CONFIG, texts)
    cached = next((settings.home / "store").rglob("*.npy"))
    cached.write_bytes(cached.read_bytes()[:100])
    assert np.array_equal(passage_embeddings(CONFIG, texts), first)

    def forbidden(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("include.families.compliance_qa.embedding.load_encoder", forbidden)
    assert np.array_equal(passage_embeddings(CONFIG, texts), first)
    with pytest.raises(AssertionError, match="computed again"):
        passage_embeddings(CONFIG, [*texts, "Another."])


def test_weights_that_were_brought_from_another_model_are_exported_with_what_learned(
    packages: Packages, tmp_path: Path
) -> None:
    """The last layer learned; the one below it came from a model in which it had learned as well."""
    state = load_file(packages.weights)
    encoder, name = load_encoder(CONFIG), "layers.4.output.dense.bias"
    below = torch.full_like(encoder.state_dict()[name], 0.5)
    save_file({**state, f"encoder.{name}": below}, tmp_path / "more.safetensors")
    export_module._load(encoder, tmp_path / "more.safetensors")
    assert torch.equal(encoder.state_dict()[name], below)


class TestEightBits:
    def export(self, packages: Packages, folder: Path, **config: Any) -> dict[str, Any]:
        config = {"serve_precision": "int8", **config}
        prepared = replace(packages.prepared, config=CONFIG.model_copy(update=config))
        folder.mkdir()
        return export_trained(prepared, packages.weights, folder)

    def test_a_smaller_encoder_that_answers_alike(self, packages: Packages, tmp_path: Path, settings: Settings) -> None:
        facts = self.export(packages, tmp_path / "a", int8_max_drop=1.0)
        assert facts["precision"] == "int8"
        assert facts["int8_map_at_10_change"]["n"] == len(packages.prepared.validation.texts)
        small, full = (folder / "encoder.onnx" for folder in (tmp_path / "a", packages.trained))
        assert small.stat().st_size < 0.8 * full.stat().st_size
        texts = packages.prepared.validation.texts
        ours, theirs = (RetrievalRuntime(folder).embed(texts) for folder in (tmp_path / "a", packages.trained))
        assert (ours * theirs).sum(axis=1).min() > 0.95
        assert not np.array_equal(ours, theirs)
        self.export(packages, tmp_path / "b", int8_max_drop=1.0)
        first, second = (seal(tmp_path / name, "compliance_qa", CODE, {}) for name in "ab")
        assert first.digest == second.digest
        verify(tmp_path / "a", first.digest)

    def test_one_that_ranks_worse_is_not_taken(
        self, packages: Packages, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ruined(_: Path, target: Path) -> None:
            encoder = load_encoder(CONFIG).eval()
            with torch.no_grad():
                for value in encoder.learning().values():
                    value.normal_()
            export_onnx(encoder, target)

        monkeypatch.setattr(export_module, "quantise", ruined)
        facts = self.export(packages, tmp_path / "a")
        assert facts["precision"] == "float32"
        assert facts["int8_map_at_10_change"]["low"] < -0.02
        assert (tmp_path / "a" / "encoder.onnx").read_bytes() == (packages.trained / "encoder.onnx").read_bytes()
        assert not list((tmp_path / "a").glob("int8-*"))
        assert facts["alpha"] == packages.facts["alpha"]
