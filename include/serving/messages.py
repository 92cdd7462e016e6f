"""What goes in and out of the gateway's own endpoints, and the replies of all: the source of its OpenAPI schema.

Requests are checked against these models. Replies are made by hand, which is faster; tests hold them against these.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, model_validator

Identifier = Annotated[str, Field(min_length=1, max_length=256)]


def _given(**types: JsonValue) -> dict[str, JsonValue]:
    """A condition of JSON Schema: the first key is there, and those that are there are of these types."""
    return {"required": [next(iter(types))], "properties": {name: {"type": kind} for name, kind in types.items()}}


_QUESTION_OR_INPUTS: list[JsonValue] = [
    _given(question="string", inputs="null"),
    _given(inputs="object", question="null"),
]
_TRUTH_OR_HELPFUL: list[JsonValue] = [_given(truth="object"), _given(helpful="boolean")]


class AskRequest(BaseModel):
    """A question, or the inputs of a family that takes something else."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"oneOf": _QUESTION_OR_INPUTS})

    question: str | None = None
    inputs: dict[str, Any] | None = None
    unit_id: Identifier | None = None
    family: Identifier | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> AskRequest:
        if (self.question is None) == (self.inputs is None):
            raise ValueError("give either `question` or `inputs`")
        return self


class FeedbackRequest(BaseModel):
    """The truth in the family's own terms, or whether the answer helped."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"anyOf": _TRUTH_OR_HELPFUL})

    request_id: Identifier
    truth: dict[str, Any] | None = None
    helpful: StrictBool | None = None

    @model_validator(mode="after")
    def _something(self) -> FeedbackRequest:
        if self.truth is None and self.helpful is None:
            raise ValueError("give `truth` or `helpful`")
        return self


class IndexRequest(BaseModel):
    """Which models the repository's index should name; the body may also be empty."""

    ready: StrictBool = False


class Served(BaseModel):
    """Who answered: the model's version and digest, its role, and the generation of the routing table."""

    request_id: str
    model_digest: str
    variant: str
    generation: int
    latency_ms: float


class AskReply(Served):
    """The family's own answer (further keys), and who answered."""

    model_config = ConfigDict(extra="allow")

    family: str
    model_version: str


class FeedbackReply(BaseModel):
    """The answer's labels; `counted` is false where all of this was known already.

    Where another gateway gave the answer, `passed_on` is true: it labels and counts it within seconds.
    """

    request_id: str
    labels: dict[str, float]
    counted: bool
    passed_on: bool = False


class TensorOut(BaseModel):
    """An output; `data` is missing where it is binary."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] = []
    parameters: dict[str, Any] = {}


class InferReply(BaseModel):
    """Outputs of an inference request."""

    id: str = ""
    model_name: str
    model_version: str
    parameters: Served
    outputs: list[TensorOut]


class ServerReply(BaseModel):
    """Server metadata."""

    name: str
    version: str
    extensions: list[str]


class LiveReply(BaseModel):
    """Whether the server works."""

    live: bool


class ReadyReply(BaseModel):
    """Whether requests should be sent here."""

    ready: bool


class ModelReadyReply(ReadyReply):
    """Whether a model answers."""

    name: str


class TensorKind(BaseModel):
    """An input or output of a model; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelReply(BaseModel):
    """Model metadata."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorKind]
    outputs: list[TensorKind]


class IndexEntry(BaseModel):
    """A model version of the repository's index."""

    name: str
    version: str
    state: str
    reason: str


class RouteReply(BaseModel):
    """What serves a family, and what could not be loaded."""

    generation: int | None
    table: dict[str, Any] | None
    degraded: bool
    failed: dict[str, Any] | None
    ledger_error: str | None


class WorkersReply(BaseModel):
    """The processes that serve."""

    configured: int
    live: int
    workers: list[dict[str, Any]]


class StatsReply(BaseModel):
    """What the variants of a generation did."""

    model_config = ConfigDict(extra="allow")

    family: str
    generation: int
    variants: dict[str, Any]


class ErrorReply(BaseModel):
    """What was wrong, in a sentence, and what to do about it."""

    model_config = ConfigDict(extra="allow")

    error: Annotated[str, Field(min_length=1)]
    hint: str = ""
