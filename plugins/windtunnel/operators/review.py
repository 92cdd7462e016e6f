"""One reviewer's form: the pairs of a review with a choice for each, in Airflow's own "Required actions".

The form is made when the task runs, because only then the pairs are known. Airflow takes one response per task, from
one person; a review has as many of these tasks as it needs answers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from include.settings import Settings
from include.store.objects import open_store

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.data.qa.review import ReviewPair

SUBMIT, LEAVE = "Submit my answers", "Leave them in quarantine"
ANSWERS = ("unsure", "right", "wrong")
_SHOWN = 2_500


class ReviewOperator(HITLOperator):
    """Asks one person about the pairs of a review.

    Args:
        batch: Key of the review's batch in the object store; may be an XCom reference.
        response_timeout: After it, the task goes on without an answer.
    """

    template_fields: Collection[str] = (*HITLOperator.template_fields, "batch")

    def __init__(self, *, batch: str, response_timeout: timedelta, **kwargs: Any) -> None:
        super().__init__(options=[SUBMIT, LEAVE], defaults=LEAVE, response_timeout=response_timeout, **kwargs)
        self.batch = batch

    def execute(self, context: Context) -> Any:
        self._make_form()
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The answers as `include.data.qa.review.Reviewed`; none where nobody gave one in time."""
        names = self._make_form()
        answered = super().execute_complete(context, event)
        user = answered["responded_by_user"]
        given: Mapping[str, str] = answered["params_input"] if SUBMIT in answered["chosen_options"] else {}
        answers = {names[field]: given.get(field, ANSWERS[0]) for field in names} if user and given else {}
        return {"reviewer": user["name"] if user else None, "answers": answers}

    def _make_form(self) -> dict[str, str]:
        """Sets body and fields from the batch; returns field -> name of the pair."""
        from include.data.qa.review import read_batch

        pairs = read_batch(open_store(Settings.from_env().store_url), self.batch)
        fields = {f"pair_{number:02d}": pair for number, pair in enumerate(pairs, 1)}
        self.params = ParamsDict(
            {
                field: Param(
                    ANSWERS[0],
                    type="string",
                    enum=list(ANSWERS),
                    title=f"{field.replace('_', ' ')}: {pair.question}"[:200],
                    description=f"Answer: {pair.answer}"[:_SHOWN],
                )
                for field, pair in fields.items()
            }
        )
        self.body = "\n\n---\n\n".join(_shown(field, pair) for field, pair in fields.items())
        return {field: pair.name for field, pair in fields.items()}


def _shown(field: str, pair: ReviewPair) -> str:
    parts = {"Question": pair.question, "Answer": pair.answer, "Cited": pair.evidence, "In doubt": pair.doubt}
    told = "\n\n".join(f"**{name}.** {_plain(text)}" for name, text in parts.items())
    return f"**{field.replace('_', ' ')}** ({_plain(pair.place)})\n\n{told}"


def _plain(text: str) -> str:
    """Text of the data as it is: no markup, no links, no pictures that a reader's browser would fetch."""
    marks = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]()<>#+-.!|~"})
    return text[:_SHOWN].translate(marks)
