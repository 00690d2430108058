"""What all tests share: in CI nothing may be skipped, since a missing tool there is a failure."""

import os

import pytest


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a CI run that skipped a test."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if os.environ.get("CI") == "true" and skipped and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{skipped} skipped tests: in CI every tool must be there", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
