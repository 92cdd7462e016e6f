"""Training parts and evaluation: the loss, the batches, freezing, and per-question outcomes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from include.errors import DataError, UserError
from include.families.compliance_qa.batches import BatchPlan, padded_gold
from include.families.compliance_qa.config import Hyperparameters, ModelConfig
from include.families.compliance_qa.corpus import read_corpus, read_questions
from include.families.compliance_qa.encoder import EncoderError, load_encoder
from include.families.compliance_qa.family import ComplianceQA
from include.families.compliance_qa.lightning_parts import Texts, ranking_loss
from include.families.compliance_qa.runtime import RetrievalRuntime
from tests.fakes.small_rulebook import SmallRulebook
from tests.families.conftest import CONFIG, Packages


def _plan(questions: int = 20, **changes: object) -> BatchPlan:
    gold = [[i % 7] if i % 5 else [i % 7, (i + 3) % 7] for i in range(questions)]
    values = {
        "gold": gold,
        "lengths": [3 + i % 9 for i in range(questions)],
        "size": 6,
        "world": 2,
        "seed": 1,
        "corpus": 30,
    }
    return BatchPlan(**(values | changes))  # type: ignore[arg-type]


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 3), st.integers(0, 5))
def test_an_epoch_has_each_pair_at_most_once_and_all_ranks_share_it(
    questions: int, size: int, world: int, epoch: int
) -> None:
    plan = _plan(questions, size=size, world=world)
    batches = plan.epoch(epoch)
    assert len(batches) == len(plan) >= 1
    seen = Counter(tuple(pair) for batch in batches for pair in batch.tolist())
    if len(plan.pairs) >= max(size, world):
        assert max(seen.values()) == 1
    assert set(seen) <= {tuple(pair) for pair in plan.pairs.tolist()}
    parts = [plan.rank_batch(batches[0], epoch, 0, rank) for rank in range(world)]
    assert len({len(part.questions) for part in parts}) == 1
    together = Counter(
        (q, t) for part in parts for q, t in zip(part.questions.tolist(), part.targets.tolist(), strict=True)
    )
    assert together == Counter(tuple(pair) for pair in batches[0].tolist())


@settings(max_examples=40)
@given(st.integers(4, 60), st.sampled_from([4, 8, 12, 24]), st.sampled_from([2, 4]), st.integers(0, 5))
def test_smaller_batches_hold_the_pairs_of_the_larger_one_step_by_step(
    questions: int, size: int, divisor: int, epoch: int
) -> None:
    whole, divided = _plan(questions, size=size, world=1), _plan(questions, size=size // divisor, world=1)
    divided = replace(divided, accumulate=divisor)
    if len(whole.pairs) < size:
        return  # fewer than a batch: what is left is divided as it comes
    assert len(divided) == len(whole) * divisor
    parts = divided.epoch(epoch)
    for step, batch in enumerate(whole.epoch(epoch)):
        assert np.concatenate(parts[step * divisor : (step + 1) * divisor]).tolist() == batch.tolist()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def flat(plan: BatchPlan, epoch: int) -> list[list[int]]:
        return np.concatenate(plan.epoch(epoch)).tolist()

    assert flat(_plan(), 3) == flat(_plan(), 3)
    assert flat(_plan(), 3) != flat(_plan(), 4)
    assert flat(_plan(), 3) != flat(_plan(seed=2), 3)


def test_mined_negatives_are_drawn_and_every_rank_has_as_many_passages() -> None:
    mined = np.array([[10 + i % 5, 20 + i % 5] for i in range(20)])
    plan = _plan(mined=mined, negatives=2)
    pairs = plan.epoch(0)[0]
    parts = [plan.rank_batch(pairs, 0, 0, rank) for rank in (0, 1)]
    for part in parts:
        assert len(part.passages) == len(set(part.passages.tolist())) == len(part.questions) * 3
        wanted = {*part.targets.tolist(), *mined[part.questions].ravel().tolist()}
        assert wanted <= set(part.passages.tolist())
    assert np.array_equal(parts[0].passages, plan.rank_batch(pairs, 0, 0, 0).passages)


def test_the_loss_by_hand_and_other_relevant_passages_do_not_count() -> None:
    questions = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    passages = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    numbers, targets = torch.tensor([4, 5, 6]), torch.tensor([4, 5])
    alone = ranking_loss(questions, passages, numbers, targets, torch.tensor([[4, -1], [5, -1]]), 0.5)
    logits = questions @ passages.T / 0.5
    assert alone.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).item())
    both = ranking_loss(questions[:1], passages, numbers, targets[:1], torch.tensor([[4, 6]]), 0.5)
    kept = torch.nn.functional.cross_entropy(logits[:1, :2], torch.tensor([0]))
    assert both.item() == pytest.approx(kept.item())


def test_a_second_copy_of_the_target_from_another_rank_does_not_count() -> None:
    questions = torch.tensor([[1.0, 0.0]])
    passages = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    gold = torch.tensor([[4]])
    twice = ranking_loss(questions, passages, torch.tensor([4, 5, 4]), torch.tensor([4]), gold, 0.1)
    once = ranking_loss(questions, passages[:2], torch.tensor([4, 5]), torch.tensor([4]), gold, 0.1)
    assert twice.item() == pytest.approx(once.item())


def test_only_the_upper_layers_learn_and_no_gradient_is_made_below() -> None:
    encoder = load_encoder(CONFIG)
    names = set(encoder.learning())
    assert names and all(name.startswith("layers.5.") for name in names)
    ids, mask = torch.tensor([[101, 2054, 102]]), torch.ones(1, 3, dtype=torch.int64)
    assert not encoder.lower(ids, mask).requires_grad
    encoder.train()(ids, mask).sum().backward()
    assert all(parameter.grad is None for name, parameter in encoder.named_parameters() if name not in names)
    assert all(parameter.grad is not None for parameter in encoder.learning().values())


def test_remembered_hidden_states_give_the_same_embeddings() -> None:
    encoder = load_encoder(CONFIG).eval()
    ids = [np.array([101, 2054, 2003, 102]), np.array([101, 102]), np.array([101, 7592, 102])]
    texts, again = Texts(ids), Texts(ids)
    again.remember(encoder, 1024, torch.float32)
    positions = np.array([2, 0, 1])
    with torch.no_grad():
        plain, remembered = texts.block(positions), again.block(positions)
        assert remembered.values.is_floating_point()
        assert torch.allclose(encoder(*plain), encoder.upper(*remembered), atol=1e-6)
    limited = Texts(ids)
    limited.remember(encoder, 0, torch.float32)
    assert not limited.block(positions).values.is_floating_point()


def test_impossible_freezing_is_refused() -> None:
    with pytest.raises(EncoderError, match="6 layers"):
        load_encoder(CONFIG.model_copy(update={"freeze_layers": 7}))


def test_hyperparameters_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="exceeds hard_negative_pool"):
        Hyperparameters(hard_negatives=5, hard_negative_pool=2)
    with pytest.raises(ValueError):
        ModelConfig(encoder="x", typo=1)  # type: ignore[call-arg]


def test_evaluation_per_question(packages: Packages) -> None:
    examples = ComplianceQA().evaluate(RetrievalRuntime(packages.trained), packages.dataset, "test")
    n = len(examples.ids)
    assert n == 24
    assert set(examples.metrics) == {"recall_at_10", "map_at_10", "hit_at_1", "citation_accuracy"}
    assert all(values.shape == (n,) and ((values >= 0) & (values <= 1)).all() for values in examples.metrics.values())
    assert set(examples.slices["document_id"]) == {"A", "B", "C"}
    assert (examples.metrics["citation_accuracy"] <= examples.metrics["hit_at_1"]).all()
    # Questions in the rules' own words are found by words alone.
    plain = [i for i, identity in enumerate(examples.ids) if identity.endswith("-0")]
    baseline = ComplianceQA().evaluate(RetrievalRuntime(packages.bm25), packages.dataset, "test")
    assert baseline.metrics["recall_at_10"][plain].mean() == 1.0


def test_requests_carry_their_truth(packages: Packages) -> None:
    family, runtime = ComplianceQA(), RetrievalRuntime(packages.bm25)
    identity, inputs, truth = next(iter(family.requests(packages.dataset, "test")))
    record = runtime.answer(runtime.predict({name: [value] for name, value in inputs.items()}), 0)
    assert identity == "q00-5-0"
    assert runtime.label(record, truth)["hit_at_10"] == 1.0


def test_unknown_baselines_and_bad_datasets_are_refused(packages: Packages) -> None:
    corpus = read_corpus(packages.dataset)
    with pytest.raises(DataError, match="no questions"):
        read_questions(packages.dataset, "holdout", corpus)

    class Dangling(SmallRulebook):
        def table(self, name: str, split: str | None = None):  # type: ignore[no-untyped-def]
            rows = super().table(name, split)
            return rows.slice(0, 5) if name == "passages" else rows

    with pytest.raises(DataError, match="not in the corpus"):
        read_questions(Dangling(), "train", read_corpus(Dangling()))
    with pytest.raises(UserError, match="no baseline"):
        ComplianceQA().export_baseline("magic", None, packages.dataset, None)  # type: ignore[arg-type]


def test_a_limit_keeps_the_same_questions_when_it_grows(packages: Packages) -> None:
    train = packages.prepared.train
    small, large = train.first(10, seed=4), train.first(20, seed=4)
    assert len(small) == 10 and set(small.ids) < set(large.ids)
    assert small.ids == tuple(sorted(small.ids))
    assert train.first(10, seed=5).ids != small.ids
    assert train.first(None, 0) is train


def test_padded_gold() -> None:
    assert padded_gold([[1], [2, 3]], np.array([1, 0])).tolist() == [[2, 3], [1, -1]]
