"""Pytest plugin: what the suite has shown of each method, as data that the badges are computed from.

A test says what it is evidence for with `@pytest.mark.contract("name")` or `@pytest.mark.oracle("name")`; it
may carry several. A name is shown when every test marked with it has run and passed: a test that is skipped,
expected to fail or deselected shows nothing.

    pytest --record-evidence          write src/letheon/papers/evidence.json; in one process
    pytest --check-evidence [-n 2]    fail if a recorded name has no test, one that failed, or none that passed

Both judge names by all their tests, so they want the whole suite. Under xdist the workers collect and run the tests
and the controller judges: a worker attaches the marks to its reports, which xdist sends to the controller.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from letheon import __version__
from letheon.core.atomic import read_json, write_json
from letheon.core.runs import utc_now

KINDS = ("contract", "oracle")
MARKS = "letheon-marks"  # the name under which a test's marks travel in its reports


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("evidence", "evidence for the badges of methods and papers")
    group.addoption("--record-evidence", action="store_true", help="write what the passing tests show")
    group.addoption("--check-evidence", action="store_true", help="fail if recorded evidence is no longer shown")
    group.addoption("--evidence-file", metavar="PATH", help="where the evidence is; the package's file by default")


def pytest_configure(config: pytest.Config) -> None:
    record, check = config.getoption("record_evidence"), config.getoption("check_evidence")
    if not (record or check):
        return
    if record and check:
        raise pytest.UsageError("--record-evidence and --check-evidence exclude each other")
    config.pluginmanager.register(MarksPlugin(), "letheon-evidence-marks")
    if hasattr(config, "workerinput"):
        return  # the controller judges
    if record and config.getoption("numprocesses", None):
        raise pytest.UsageError("evidence is recorded in one process: leave -n out")
    if not _covers_the_suite(config):
        raise pytest.UsageError("evidence is judged by the whole suite: give no paths but the suite's own")
    place = config.getoption("evidence_file") or config.rootpath / "src/letheon/papers/evidence.json"
    config.pluginmanager.register(EvidencePlugin(Path(place), record), "letheon-evidence")


def _covers_the_suite(config: pytest.Config) -> bool:
    """Whether every test path of the configuration lies in a path that was asked for."""
    asked = [(config.invocation_params.dir / argument).resolve() for argument in config.args]
    suite = [(config.rootpath / path).resolve() for path in config.getini("testpaths") or ["."]]
    return all(any(path.is_relative_to(one) for one in asked) for path in suite)


class MarksPlugin:
    """Attaches a test's marks to its reports, in the process that runs the test."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        marks = []
        for kind in KINDS:
            for mark in item.iter_markers(kind):
                if len(mark.args) != 1 or mark.kwargs or not isinstance(mark.args[0], str):
                    raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.{kind} takes one name")
                marks.append([kind, mark.args[0]])
        item.user_properties.append((MARKS, marks))


def _marks(properties: list[tuple[str, object]]) -> list[tuple[str, str]]:
    """The (kind, name) pairs among the properties of a test or of its report."""
    return [(kind, name) for key, marks in properties if key == MARKS for kind, name in marks]  # type: ignore[attr-defined]


class EvidencePlugin:
    """Collects marks and outcomes; writes or checks the file when the session ends."""

    def __init__(self, file: Path, record: bool) -> None:
        self.file = file
        self.record = record
        self.tests: dict[tuple[str, str], set[str]] = defaultdict(set)  # (kind, name) -> test ids
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.broken_modules: list[str] = []
        self.lines: list[str] = []

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note the marks of tests that will not run; under xdist nothing is collected in this process."""
        for mark in _marks(item.user_properties):
            self.tests[mark].add(item.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken_modules.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for mark in _marks(report.user_properties):
            self.tests[mark].add(report.nodeid)
        if report.failed:  # in set-up and tear-down as well
            self.failed.add(report.nodeid)
        elif report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self.passed.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.record:
            self._write(session)
        else:
            self._check(session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.lines:
            terminalreporter.section("evidence")
        for line in self.lines:
            terminalreporter.line(line)

    def _shown(self, kind: str) -> dict[str, bool]:
        good = self.passed - self.failed
        return {name: True for of, name in sorted(self.tests) if of == kind and self.tests[of, name] <= good}

    def _write(self, session: pytest.Session) -> None:
        if self.broken_modules:
            self.lines.append(f"not written: could not be collected: {', '.join(self.broken_modules)}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return
        shown = {kind: self._shown(kind) for kind in KINDS}
        write_json(self.file, {**shown, "version": __version__, "date": utc_now()})
        for (kind, name), tests in sorted(self.tests.items()):
            if name not in shown[kind]:
                missing = sorted(tests - (self.passed - self.failed))
                self.lines.append(f"{kind} {name}: not shown, did not pass: {', '.join(missing)}")
        self.lines.append("written: " + ", ".join(f"{len(shown[kind])} {kind}" for kind in KINDS))

    def _check(self, session: pytest.Session) -> None:
        """A recorded name needs a test that passed and none that failed; tests skipped on this machine are allowed."""
        recorded = read_json(self.file)
        for kind in KINDS:
            for name in (name for name, shown in recorded[kind].items() if shown):
                tests = self.tests.get((kind, name), set())
                if not tests:
                    self.lines.append(f"{kind} {name}: recorded, but no test is marked with it")
                elif tests & self.failed:
                    self.lines.append(f"{kind} {name}: recorded, but failed: {', '.join(sorted(tests & self.failed))}")
                elif not tests & self.passed:
                    self.lines.append(f"{kind} {name}: recorded, but none of its tests has passed")
        if self.lines:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
