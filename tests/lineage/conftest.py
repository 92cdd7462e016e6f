"""The release side of an installation, as its own tests have it."""

from tests.release.conftest import tunnel  # noqa: F401
