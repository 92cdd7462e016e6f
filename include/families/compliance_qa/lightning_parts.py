"""The dual encoder as a LightningModule, and its data as a LightningDataModule.

Loss: multiple-negatives ranking, the softmax cross-entropy of the relevant passage among candidates (Henderson et al.
2017, arXiv:1705.00652). With fixed passages the candidates are the whole corpus, so that in-batch and hard negatives
are all among them. With trained passages they are those of the batch, the other questions' and the mined ones, gathered
over all ranks, so that two processes with half a batch each learn the same as one with all of it. Other relevant
passages of a question never count as negatives.
"""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from numpy.typing import NDArray
from torch import Tensor, nn

from include.errors import Diverged
from include.families.compliance_qa.batches import Batch, BatchPlan, padded_gold
from include.families.compliance_qa.config import Hyperparameters
from include.families.compliance_qa.embedding import batches_by_length, padded
from include.families.compliance_qa.encoder import Encoder
from include.families.compliance_qa.fusion import choose_alpha
from include.families.compliance_qa.prepared import Prepared
from include.families.compliance_qa.tokens import Ids
from include.spec.training import TrainerSpec
from include.training.freezing import learning_parameters
from include.training.optimizing import optimizer_and_schedule
from include.training.position import position

_CHUNK = 16  # texts from which on a block is cut in two by length, to pad less
_MEGABYTE = 1 << 20


class Block(NamedTuple):
    """Padded texts: token ids (n, tokens), or hidden states below the learning layers (n, tokens, width); and mask."""

    values: Tensor
    mask: Tensor


class TrainBatch(NamedTuple):
    """One rank's part of a batch; questions and passages are cut into blocks of like length, rows in their order.

    `targets` (n,) and `gold` (n, most; -1 fills up) hold passage numbers, `numbers` (p,) those of the passages' rows.
    """

    questions: list[Block]
    passages: list[Block]
    targets: Tensor
    gold: Tensor
    numbers: Tensor


class EvalBatch(NamedTuple):
    """Texts to embed for validation; `rows` says where they belong."""

    is_passage: bool
    rows: Tensor
    block: Block


class Texts:
    """Tokenised texts as blocks; below the learning layers' border they are computed once where memory allows."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self._hidden: list[Tensor] | None = None

    @torch.no_grad()
    def remember(self, encoder: Encoder, limit_mb: int, dtype: torch.dtype) -> None:
        """Computes the hidden states below the border for all texts, unless they take more than `limit_mb`."""
        size = sum(map(len, self.ids)) * encoder.width * dtype.itemsize
        if not encoder.frozen or size > limit_mb * _MEGABYTE:
            return
        hidden: list[Tensor] = [torch.empty(0)] * len(self.ids)
        for batch in batches_by_length([len(row) for row in self.ids]):
            tokens, mask = padded([self.ids[i] for i in batch])
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
                states = encoder.lower(tokens, mask).to(dtype)
            for row, number in enumerate(batch):
                hidden[number] = states[row, : len(self.ids[number])].clone()
        self._hidden = hidden

    def block(self, positions: NDArray[np.int64]) -> Block:
        """The texts at `positions`, padded."""
        tokens, mask = padded([self.ids[i] for i in positions])
        if self._hidden is None:
            return Block(tokens, mask)
        values = nn.utils.rnn.pad_sequence([self._hidden[i] for i in positions], batch_first=True)
        return Block(values, mask)

    def blocks(self, positions: NDArray[np.int64]) -> list[Block]:
        """Like `block`, in two halves where there are many. `positions` should be in the order of their length."""
        halves = np.array_split(positions, 2) if len(positions) >= _CHUNK else [positions]
        return [self.block(half) for half in halves]

    def by_length(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The order that sorts `positions` by length."""
        return np.argsort([len(self.ids[i]) for i in positions], kind="stable")


class TrainBatches:
    """The batches of each epoch, from where a checkpoint left off."""

    def __init__(self, data: RetrievalData, plan: BatchPlan, rank: int) -> None:
        self._data, self._plan, self._rank = data, plan, rank

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[TrainBatch]:
        epoch, done = position(self._data.trainer)  # asked at the first batch, when a checkpoint has been read
        for index, pairs in enumerate(self._plan.epoch(epoch)):
            if index >= done:
                yield self._data.collate(self._plan.rank_batch(pairs, epoch, index, self._rank))


@dataclass(frozen=True)
class EvalBatches:
    """Batches for validation. (Lightning takes a plain list for one of loaders.)"""

    batches: list[EvalBatch]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[EvalBatch]:
        return iter(self.batches)


class RetrievalData(LightningDataModule):
    """Batches for training and validation.

    Args:
        batch_size: Pairs per batch over all ranks.
        max_examples: Most training questions.
    """

    def __init__(
        self,
        prepared: Prepared,
        hyperparameters: Hyperparameters,
        *,
        batch_size: int,
        max_examples: int | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.prepared = prepared
        self._hyper = hyperparameters
        self._size = batch_size
        self._seed = seed
        self._train = prepared.train.first(max_examples, seed)
        position = {identity: number for number, identity in enumerate(prepared.train.ids)}
        self._rows = np.array([position[identity] for identity in self._train.ids], dtype=np.int64)
        self._questions = Texts([prepared.train_ids[row] for row in self._rows])
        self._validation = Texts(prepared.validation_ids)
        self._trains_passages = prepared.config.passages == "trained"
        self._passages = Texts(prepared.train_passage_ids) if self._trains_passages else None
        #: Numbers of the passages that validation ranks.
        self.candidates = prepared.validation_pool() if self._trains_passages else np.arange(len(prepared.corpus.keys))

    @property
    def examples(self) -> int:
        """Training questions."""
        return len(self._train)

    def setup(self, stage: str) -> None:
        trainer = self.trainer
        assert trainer is not None  # Lightning sets it before it calls setup
        if trainer.strategy.root_device.type != "cpu" or self._questions._hidden is not None:
            return  # an accelerator computes the lower layers faster than it fetches them
        encoder = cast(DualEncoder, trainer.lightning_module).encoder
        dtype = torch.bfloat16 if str(trainer.precision).startswith("bf16") else torch.float32
        encoder.eval()
        for texts in (self._questions, self._validation):
            texts.remember(encoder, self.prepared.config.cache_mb, dtype)

    def train_dataloader(self) -> TrainBatches:
        trainer = self.trainer
        assert trainer is not None
        mined = self.prepared.mined(self._hyper.hard_negative_pool)[self._rows] if self._trains_passages else None
        plan = BatchPlan(
            gold=self._train.gold,
            lengths=[len(ids) for ids in self._questions.ids],
            size=self._size,
            accumulate=trainer.accumulate_grad_batches,
            world=trainer.world_size,
            seed=self._seed,
            corpus=len(self.prepared.corpus.keys),
            mined=mined,
            negatives=self._hyper.hard_negatives,
        )
        return TrainBatches(self, plan, trainer.global_rank)

    def val_dataloader(self) -> EvalBatches:
        trainer = self.trainer
        assert trainer is not None
        rank, world = trainer.global_rank, trainer.world_size
        batches = [*_eval_batches(False, self._validation, np.arange(len(self._validation.ids)), rank, world)]
        if self._trains_passages:
            batches += _eval_batches(True, Texts(self.prepared.passage_ids), self.candidates, rank, world)
        return EvalBatches(batches)

    def collate(self, batch: Batch) -> TrainBatch:
        """The tensors of one rank's batch."""
        order = self._questions.by_length(batch.questions)
        questions, targets = batch.questions[order], batch.targets[order]
        numbers, passages = batch.passages, list[Block]()
        if self._passages is not None:
            numbers = numbers[self._passages.by_length(numbers)]
            passages = self._passages.blocks(numbers)
        gold = padded_gold(self._train.gold, questions)
        return TrainBatch(
            self._questions.blocks(questions),
            passages,
            torch.from_numpy(targets),
            torch.from_numpy(gold),
            torch.from_numpy(numbers),
        )


def _eval_batches(
    is_passage: bool, texts: Texts, positions: NDArray[np.int64], rank: int, world: int
) -> list[EvalBatch]:
    """This rank's share, in batches of like length. Every rank has as many rows: the last ones may come twice."""
    rows = texts.by_length(positions)
    share = np.resize(rows, -(-len(rows) // world) * world)[rank::world]
    return [
        EvalBatch(is_passage, torch.from_numpy(share[batch]), texts.block(positions[share[batch]]))
        for batch in batches_by_length([len(texts.ids[positions[row]]) for row in share])
    ]


class DualEncoder(LightningModule):
    """Question and passage encoder with the ranking loss; validates on the fused ranking.

    Args:
        fixed_passages: Embeddings of all passages where they do not learn, shape (passages, width).
    """

    def __init__(
        self,
        encoder: Encoder,
        hyperparameters: Hyperparameters,
        fixed_passages: NDArray[np.float32] | None,
        trainer_spec: TrainerSpec,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self._hyper = hyperparameters
        self._trainer_spec = trainer_spec
        self.fixed: Tensor | None
        self.register_buffer(
            "fixed", None if fixed_passages is None else torch.from_numpy(fixed_passages), persistent=False
        )
        self._start: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}
        self._embedded: list[tuple[bool, Tensor, Tensor]] = []

    def setup(self, stage: str) -> None:
        """Keeps what training starts from: weights from elsewhere are there by now, those of a checkpoint are not."""
        if self._hyper.interpolation < 1.0:
            self._start = {name: value.detach().clone() for name, value in learning_parameters(self).items()}

    def embed(self, block: Block) -> Tensor:
        """Embeddings of a block, float32."""
        return self.encoder.upper(*block) if block.values.is_floating_point() else self.encoder(*block)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        questions = torch.cat([self.embed(block) for block in batch.questions])
        if self.fixed is not None:
            columns = torch.arange(len(self.fixed), device=self.device)
            return ranking_loss(questions, self.fixed, columns, batch.targets, batch.gold, self._hyper.temperature)
        passages = torch.cat([self.embed(block) for block in batch.passages])
        numbers = batch.numbers
        if self.trainer.world_size > 1:
            passages = self._gathered(passages, sync_grads=True).flatten(0, 1)
            numbers = self._gathered(numbers).flatten()
        return ranking_loss(questions, passages, numbers, batch.targets, batch.gold, self._hyper.temperature)

    def configure_optimizers(self) -> Any:
        """As the trainer's part of the spec says; by default AdamW, linear warm-up and linear decay to zero."""
        return optimizer_and_schedule(
            self,
            self._trainer_spec,
            learning_rate=self._hyper.learning_rate,
            weight_decay=self._hyper.weight_decay,
            warmup_share=self._hyper.warmup_share,
        )

    def on_validation_start(self) -> None:
        """Validation, and the best weights saved after it, are those of the interpolated encoder."""
        if self._start:
            self._trained = {name: value.detach().clone() for name, value in self.encoder.learning().items()}
            self._assign(
                {
                    name: self._start[f"encoder.{name}"].to(value.device).lerp(value, self._hyper.interpolation)
                    for name, value in self._trained.items()
                }
            )

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> None:
        self._embedded.append((batch.is_passage, batch.rows, self.embed(batch.block).float()))

    def on_validation_epoch_end(self) -> None:
        data: RetrievalData = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        questions = self._collected(False, len(data.prepared.validation))
        passages = (
            self.fixed.float().cpu().numpy() if self.fixed is not None else self._collected(True, len(data.candidates))
        )
        self._embedded.clear()
        if not np.isfinite(questions).all() or not np.isfinite(passages).all():
            raise Diverged("the encoder diverged: embeddings are not finite", hint="lower the learning rate")
        column = {int(number): index for index, number in enumerate(data.candidates)}
        gold = [[column[number] for number in numbers] for numbers in data.prepared.validation.gold]
        lexical = data.prepared.validation_lexical[:, data.candidates]
        alpha, metrics = choose_alpha(lexical, questions @ passages.T, gold)
        self.log_dict({**metrics, "alpha": alpha}, rank_zero_only=False)

    def on_validation_end(self) -> None:
        if self._trained:
            self._assign(self._trained)
            self._trained = {}

    def _collected(self, is_passage: bool, n: int) -> NDArray[np.float32]:
        """The embeddings of all ranks, in the order of their rows."""
        parts = [(rows, values) for kind, rows, values in self._embedded if kind is is_passage]
        rows = torch.cat([part for part, _ in parts])
        values = torch.cat([part for _, part in parts])
        if self.trainer.world_size > 1:
            rows, values = self._gathered(rows).flatten(), self._gathered(values).flatten(0, 1)
        out = np.empty((n, self.encoder.width), dtype=np.float32)
        out[rows.cpu().numpy()] = values.cpu().numpy()
        return out

    def _gathered(self, values: Tensor, sync_grads: bool = False) -> Tensor:
        """Of all ranks, stacked in front."""
        stacked = self.all_gather(values, sync_grads=sync_grads)
        assert isinstance(stacked, Tensor)
        return stacked

    @torch.no_grad()
    def _assign(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.encoder.learning().items():
            parameter.copy_(values[name])


def ranking_loss(
    questions: Tensor, passages: Tensor, numbers: Tensor, targets: Tensor, gold: Tensor, temperature: float
) -> Tensor:
    """Mean cross-entropy of each question's target among all passages that are not relevant to it.

    Args:
        questions: (n, width). passages: (p, width), their numbers (p,); a number may occur twice.
        targets: (n,) passage numbers, each among `numbers`. gold: (n, most) relevant passage numbers, -1 fills up.
    """
    with torch.autocast(questions.device.type, enabled=False):
        logits = questions.float() @ passages.float().T / temperature
        relevant = (numbers[None, :, None] == gold[:, None, :]).any(dim=-1)
        column = (numbers[None, :] == targets[:, None]).int().argmax(dim=1)
        excluded = relevant.scatter(1, column[:, None], False)
        return nn.functional.cross_entropy(logits.masked_fill(excluded, float("-inf")), column)
