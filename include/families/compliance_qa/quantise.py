"""The encoder in 8 bits, where the validation questions show that it ranks as well.

Dynamic quantisation by onnxruntime: weights of the matrix products in 8 bits, one scale per output channel; what goes
into them is quantised call by call (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
Passages keep the embeddings of the full encoder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from include.evaluation.intervals import Interval, paired_interval
from include.families.compliance_qa.fusion import Scores
from include.families.compliance_qa.metrics import rank, ranking_metrics

METRIC = "map_at_10"
_CONFIDENCE, _RESAMPLES = 0.95, 2000


def quantise(source: Path, target: Path) -> None:
    """Writes the ONNX model in `source` with its matrix products in 8 bits; the same bytes for the same model."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder) / source.name
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            str(prepared),
            str(target),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
        )


def difference(before: Scores, after: Scores, gold: Sequence[Collection[int]]) -> Interval:
    """What MAP@10 gains by going from the scores `before` to those `after`, with its 95% interval.

    Args:
        before, after: Fused scores of the same questions, shape (n, passages).
        gold: Column numbers of the passages that answer each question.
    """
    values = [ranking_metrics(rank(scores).tolist(), gold)[METRIC] for scores in (after, before)]
    return paired_interval(*values, confidence=_CONFIDENCE, resamples=_RESAMPLES, seed=0, bounds=(0.0, 1.0))
