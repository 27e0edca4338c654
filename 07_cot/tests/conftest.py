"""Settings of this chapter's tests."""

from for_tests import one_thread  # noqa: F401
