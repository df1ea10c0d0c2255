"""The report of a smoke run: for people as Markdown, for programs as JSON."""

from collections.abc import Iterator

import msgspec

from delivery.smoke.compare import Difference
from delivery.smoke.state import State
from delivery.smoke.walk import Record


class Report(msgspec.Struct, kw_only=True):
    """All that a smoke run has to say."""

    commit: str
    state: State
    limit: str
    """The cost limit, in words."""
    differences: list[Difference] | None = None
    """None where it did not come so far."""
    here: Record | None = None
    there: Record | None = None

    @property
    def passed(self) -> bool:
        """Whether all of it was done, nothing differs, and nothing is left that costs money."""
        return self.differences == [] and not self.state.fault and self.state.taken_down


def as_json(report: Report) -> bytes:
    """Indented, with the verdict first."""
    content = {"passed": report.passed, **msgspec.to_builtins(report)}
    return msgspec.json.format(msgspec.json.encode(content))


def as_markdown(report: Report) -> str:
    """Verdict, differences, steps and times."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# Smoke run of {report.commit[:12]}: {'passed' if report.passed else 'not passed'}"
    yield ""
    if report.state.fault:
        yield from ("It ended early:", "", *(f"    {line}" for line in report.state.fault.splitlines()), "")
    yield (
        "Everything was taken down."
        if report.state.taken_down
        else ("**The environment is still there and costs money**: `make azure-smoke DOWN=yes` takes it down.")
    )
    yield from ("", report.limit, "", "## What differed", "")
    yield from _differences(report.differences)
    yield from ("", "## Steps", "", "| Step | Seconds |", "| --- | --- |")
    yield from (f"| {step} | {seconds:.0f} |" for step, seconds in report.state.done.items())
    if report.here and report.there:
        yield from ("", "## Seconds by task", "", f"| Task | {report.here.where} | {report.there.where} |")
        yield "| --- | --- | --- |"
        yield from _seconds(report.here, report.there)


def _differences(found: list[Difference] | None) -> Iterator[str]:
    if found is None:
        yield "Nothing was compared."
    elif not found:
        yield "Nothing."
    else:
        yield from ("| Run | What | Here | There |", "| --- | --- | --- | --- |")
        yield from (f"| {one.run} | {one.what} | {one.here} | {one.there} |" for one in found)


def _seconds(here: Record, there: Record) -> Iterator[str]:
    for name, ran in there.runs.items():
        ours = here.runs[name].seconds if name in here.runs else {}
        for task, seconds in ran.seconds.items():
            yield f"| {name}: {task} | {ours.get(task, '-')} | {seconds} |"
