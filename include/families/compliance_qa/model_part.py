"""The model side of the family: training, packages, evaluation. Heavy imports wait until a method is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.errors import UserError
from include.families.compliance_qa.config import Hyperparameters, ModelConfig
from include.families.contract import DatasetView, Examples, ModelRuntime
from include.spec.models import FamilySpec

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

BM25 = "bm25"
#: Share of a reference answer's words that the cited passage must have to count as its source.
SUPPORT = 0.5
_EVALUATE_ROWS = 64


class ModelPart:
    """Trains, exports, loads and evaluates; see `include.families.contract.Family`."""

    def data_module(
        self, spec: FamilySpec, dataset: DatasetView, hyperparameters: Mapping[str, Any], seed: int
    ) -> LightningDataModule:
        from include.families.compliance_qa.lightning_parts import RetrievalData
        from include.families.compliance_qa.prepared import prepare

        return RetrievalData(
            prepare(_config(spec), dataset),
            Hyperparameters.model_validate(hyperparameters),
            batch_size=spec.trainer.batch_size,
            max_examples=spec.trainer.max_examples,
            seed=seed,
        )

    def module(self, spec: FamilySpec, dataset: DatasetView, hyperparameters: Mapping[str, Any]) -> LightningModule:
        from include.families.compliance_qa.encoder import load_encoder
        from include.families.compliance_qa.lightning_parts import DualEncoder
        from include.families.compliance_qa.prepared import prepare

        config = _config(spec)
        fixed = prepare(config, dataset).untrained_passages if config.passages == "fixed" else None
        hyper = Hyperparameters.model_validate(hyperparameters)
        return DualEncoder(load_encoder(config), hyper, fixed, spec.trainer)

    def export(
        self,
        spec: FamilySpec,
        dataset: DatasetView,
        hyperparameters: Mapping[str, Any],
        checkpoint: Path | None,
        folder: Path,
    ) -> dict[str, Any]:
        from include.families.compliance_qa.export import export_trained
        from include.families.compliance_qa.prepared import prepare

        return export_trained(prepare(_config(spec), dataset), checkpoint, folder)

    def export_baseline(self, name: str, spec: FamilySpec, dataset: DatasetView, folder: Path) -> dict[str, Any]:
        from include.families.compliance_qa.export import export_bm25
        from include.families.compliance_qa.prepared import prepare

        if name not in self.baselines():
            raise UserError(f"there is no baseline {name!r}", hint=f"known: {', '.join(self.baselines())}")
        return export_bm25(prepare(_config(spec), dataset), folder)

    def baselines(self) -> Sequence[str]:
        return (BM25,)

    def load(self, folder: Path) -> ModelRuntime:
        from include.families.compliance_qa.runtime import RetrievalRuntime

        return RetrievalRuntime(folder)

    def evaluate(self, runtime: ModelRuntime, dataset: DatasetView, split: str) -> Examples:
        """Per question: `recall_at_10`, `map_at_10`, `hit_at_1` and `citation_accuracy`.

        Citation accuracy follows the idea of Gao et al. 2023 ("Enabling Large Language Models to Generate Text with
        Citations", EMNLP): a citation is right if it supports the answer. Here it is 1 where the first cited passage
        is a relevant one and, if a reference answer is known, has at least half of its distinct content words
        (ROUGE-1 recall, Lin 2004, on stems without stop words); else 0.
        """
        from include.families.compliance_qa.corpus import read_corpus, read_questions
        from include.families.compliance_qa.metrics import ranking_metrics
        from include.families.compliance_qa.runtime import RetrievalRuntime

        if not isinstance(runtime, RetrievalRuntime):
            raise UserError(f"not a runtime of this family: {type(runtime).__name__}")
        corpus = read_corpus(dataset)
        questions = read_questions(dataset, split, corpus)
        rankings: list[list[str]] = []
        for start in range(0, len(questions), _EVALUATE_ROWS):
            rankings += runtime.predict({"question": questions.texts[start : start + _EVALUATE_ROWS]})["passage_ids"]
        gold = [[corpus.keys[number] for number in numbers] for numbers in questions.gold]
        metrics = ranking_metrics(rankings, gold)
        supported = _supported(runtime, [row[0] for row in rankings], questions.answers)
        return Examples(
            ids=questions.ids,
            metrics={
                "recall_at_10": metrics["recall_at_10"],
                "map_at_10": metrics["map_at_10"],
                "hit_at_1": metrics["hit_at_1"],
                "citation_accuracy": metrics["hit_at_1"] * supported,
            },
            slices={"document_id": list(questions.documents)},
        )

    def requests(self, dataset: DatasetView, split: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        from include.families.compliance_qa.corpus import read_corpus, read_questions

        corpus = read_corpus(dataset)
        questions = read_questions(dataset, split, corpus)
        for identity, text, gold in zip(questions.ids, questions.texts, questions.gold, strict=True):
            yield identity, {"question": text}, {"citations": [corpus.keys[number] for number in gold]}


def _config(spec: FamilySpec) -> ModelConfig:
    return ModelConfig.model_validate(spec.model)


def _supported(runtime: Any, cited: Sequence[str], answers: Sequence[str | None]) -> Any:
    """1 where the cited passage covers the reference answer, or there is none; shape (n,)."""
    import numpy as np

    from include.families.compliance_qa.answers import coverage

    passages = runtime.words([runtime.passage_text(key) for key in cited])
    wanted = runtime.words([answer or "" for answer in answers])
    return np.array(
        [float(coverage(answer, passage) >= SUPPORT) for answer, passage in zip(wanted, passages, strict=True)]
    )
