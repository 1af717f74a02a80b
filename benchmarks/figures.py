"""The common form of what benchmarks measure: rows of timings in sections, goals beside them.

A section is made by ``NAME_figures(quick) -> dict`` in ``benchmarks/NAME.py`` and survives JSON
unchanged; tables, plot and page (``benchmarks/show.py``) know this form and nothing else.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple


@dataclass
class Row:
    """One thing that was timed.

    Args:
        name: what, as it stands in the table.
        seconds: of every timed call, in the order of the rounds.
        work: what one call gets done, in ``unit``.
        unit: such as "photos", "megapixels", "frames", "evaluations"; the table shows a rate.
        gmac: multiply-adds that one call needs, 1e9; for the share of the machine's rate.
        precision: "32" or "bf16": the product rate that the share is of.
        memory_mb: peak over the process before it, in a process of its own.
        note: a few words beside it.
    """

    name: str
    seconds: list[float]
    work: float = 1.0
    unit: str = "calls"
    gmac: float | None = None
    precision: str = "32"
    memory_mb: float | None = None
    note: str = ""

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Work a second at the median."""
        return self.work / self.median_s


@dataclass
class Goal:
    """A figure of merit beside what was aimed at.

    Args:
        what: the goal in words.
        reached: the figure; None where it could not be measured here.
        least, most: what it should be, one of them.
        unit: shown after the figures, such as "×", " s", " photos/s".
        note: why it is missing, or how near it came.
    """

    what: str
    reached: float | None
    least: float | None = None
    most: float | None = None
    unit: str = "×"
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.reached is None:
            return None
        above = self.least is None or self.reached >= self.least
        return above and (self.most is None or self.reached <= self.most)


@dataclass
class Section:
    """One table.

    Args:
        name: the word for ``--only``.
        title: the table's heading, with sizes and batch.
        rows: the first one is what the others are compared with, unless ``baseline`` names another.
        baseline: a row's name; "" compares with nothing.
        goals: the issue's or our own.
        notes: sentences under the table.
        extra: plain data for the page and for readers of the JSON, such as curves.
    """

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    baseline: str | None = None
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def compared_with(self) -> Row | None:
        """The row that the others are compared with."""
        if self.baseline == "" or not self.rows:
            return None
        return self.rows[0] if self.baseline is None else self[self.baseline]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Section":
        rows = [Row(**row) for row in values.get("rows", [])]
        goals = [Goal(**goal) for goal in values.get("goals", [])]
        return Section(**{**values, "rows": rows, "goals": goals})


class Quartiles(NamedTuple):
    low: float
    median: float
    high: float


def quartiles(values: Sequence[float]) -> Quartiles:
    """Lower quartile, median and upper quartile, by linear interpolation between values."""
    if len(values) == 1:
        return Quartiles(*values * 3)
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def ratio(slow: Row, fast: Row) -> float:
    """How many times as much work the second does in the same time, by medians."""
    return fast.rate / slow.rate


def interleave(
    functions: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm_up: int = 1,
    limit_s: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every call, the functions taking turns, so that a busy minute hits all alike.

    The order is reversed every other round, lest one always follow the same neighbour.

    Args:
        warm_up: untimed rounds before, for allocation and the choice of kernels.
        limit_s: begin no further round after so long, once there are three.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(warm_up):
        for name in names:
            functions[name]()
    first = clock()
    for number in range(rounds):
        if limit_s is not None and number >= 3 and clock() - first > limit_s:
            break
        for name in names if number % 2 == 0 else reversed(names):
            start = clock()
            functions[name]()
            seconds[name].append(clock() - start)
    return seconds
