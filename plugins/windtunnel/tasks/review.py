"""The light tasks of `review__<family>`: which pairs people are asked about, and what their answers come to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from include.errors import UserError
from include.settings import Settings
from include.spec import AnyFamilySpec, family_folder, load_any_family, profile_names
from include.spec.pairs import QaSpec
from plugins.windtunnel.runs import run_name


def choose_pairs(family: str, profile: str) -> str:
    """Key of the batch of this review; skipped where no pair waits for people."""
    from include.data.qa.review import choose_batch, store_batch
    from include.release.ledger import Ledger
    from include.store.database import open_database
    from include.store.objects import open_store

    settings, (spec, qa) = Settings.from_env(), _spec(family, profile)
    store = open_store(settings.store_url)
    run = run_name(get_current_context())
    pairs = choose_batch(store, Ledger(open_database(settings.database_url)), spec, qa)
    if not pairs:
        raise AirflowSkipException("no pair waits for people")
    print(f"{len(pairs)} pairs go to {qa.review.reviewers} reviewers")
    return store_batch(store, run, pairs)


def settle_pairs(family: str, profile: str, batch: str, reviews: Iterable[dict[str, Any] | None]) -> dict[str, Any]:
    """Counts the answers, and releases the pairs that reviewers agree to be right."""
    from include.data.qa.review import Reviewed, read_batch, settle
    from include.release.ledger import Ledger
    from include.store.database import open_database
    from include.store.objects import open_store

    settings, (spec, qa) = Settings.from_env(), _spec(family, profile)
    store = open_store(settings.store_url)
    outcome = settle(
        store,
        Ledger(open_database(settings.database_url)),
        spec,
        qa,
        run_name(get_current_context()),
        read_batch(store, batch),
        [Reviewed.model_validate(review) for review in reviews if review],
        at=datetime.now(UTC),
    )
    print(f"right {len(outcome.right)}, wrong {len(outcome.wrong)}, open {len(outcome.open)}; by {outcome.reviewers}")
    print(f"agreement {outcome.agreement} (kappa {outcome.kappa}), {qa.review.agreement} wanted")
    return outcome.model_dump(mode="json")


def _spec(family: str, profile: str) -> tuple[AnyFamilySpec, QaSpec]:
    known = profile_names(family_folder(family) / "family.yaml")
    spec = load_any_family(family, profile if profile in known else "default")
    if spec.data.qa is None:
        raise UserError(f"{family} has no pairs to review in the profile {profile!r}", where="data.qa")
    return spec, spec.data.qa
