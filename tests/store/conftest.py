"""Every store, for the tests that hold all of them to the same contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.store.objects import ObjectStore, open_store


@pytest.fixture(params=["local", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Root URL of every kind of store."""
    if request.param == "local":
        return (tmp_path / "a store").as_uri()
    return str(request.getfixturevalue("s3_url"))


@pytest.fixture
def store(store_url: str) -> ObjectStore:
    return open_store(store_url)
