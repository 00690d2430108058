"""What all tests share: nothing may be skipped in CI, where a missing tool is a failure; golden files."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
Compare = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that accepts changed golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/ with what is generated now")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Compare:
    """Return a function that compares text with a file of tests/golden/, or rewrites it under --update-golden."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path} is missing: run pytest --update-golden"
        assert text.splitlines() == path.read_text(encoding="utf-8").splitlines(), "if right: pytest --update-golden"

    return compare


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a CI run that skipped a test."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if os.environ.get("CI") == "true" and skipped and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{skipped} skipped tests: in CI every tool must be there", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
