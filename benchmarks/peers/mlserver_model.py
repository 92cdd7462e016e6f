"""The model behind MLServer, in its runtime contract."""

from __future__ import annotations

import json

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.packaged import Packaged


class PackagedModel(MLModel):  # type: ignore[misc]  # MLServer is in its own environment, without types here
    """Takes `question` and gives the records as JSON texts: MLServer has no tensor for a record."""

    async def load(self) -> bool:
        self._model = Packaged()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        questions = StringCodec.decode_input(payload.inputs[0])
        records = [json.dumps(record) for record in self._model.records(questions)]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("records", records)])
