"""Results as plain text, and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.harness import Results, Row, Table
from benchmarks.measure import Series
from benchmarks.targets import Verdict

NAME_WIDTH = 50
TARGET_WIDTH = 76
LABELS = {"limit": "LIMIT", "ours": "ours", "peer": ""}
WHERE = {"free": "free", "pinned": "pinned to one core"}


def facts(told: Mapping[str, Any]) -> Iterator[str]:
    """The machine, a line for each fact."""
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield f"{name}: " + ", ".join(f"{key} {each or '(not installed)'}" for key, each in value.items())
        else:
            yield f"{name}: {value if value is not None else 'not available'}"


def tables(results: Results) -> Iterator[str]:
    """Every table, under the title of its group. A ratio above 1 means slower, or bigger, than that row."""
    title = ""
    for table in results.tables():
        if title != table.group.title:
            title = table.group.title
            yield f"\n{table.group.name.upper()}: {title}"
        yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    limit, ours = _first(table.rows, "limit"), _first(table.rows, "ours")
    unit = next((row.series.unit for row in table.rows if row.series), "no figure")
    where = f", {WHERE[table.placement]}" if len(table.group.placements) > 1 else ""
    head = f"{table.measure}{where} [{unit}]"
    share = f" {'of limit':>8}" if table.group.shares else ""
    yield f"\n  {head:{NAME_WIDTH + 6}}{'p50':>9} {'p95':>9} {'p99':>9} {'x limit':>8} {'x ours':>8}{share}"
    for row in table.rows:
        yield from _lines(row, limit, ours, shares=table.group.shares)


def _lines(row: Row, limit: Series | None, ours: Series | None, *, shares: bool) -> Iterator[str]:
    label = f"  {LABELS[row.contender.role]:5} {row.contender.name:{NAME_WIDTH}}"
    series = row.series
    if series is not None:
        percentiles = " ".join(f"{_number(value):>9}" for value in (series.p50, series.p95, series.p99))
        share = f" {_percent(of_limit(series, limit)):>8}" if shares else ""
        yield f"{label} {percentiles} {_number(slower(series, limit)):>8} {_number(slower(series, ours)):>8}{share}"
    if row.unavailable:
        yield f"{label} {'not available' if series is None else 'failed in a round'}: {row.unavailable}"


def _first(rows: Iterable[Row], role: str) -> Series | None:
    return next((row.series for row in rows if row.contender.role == role and row.series), None)


def slower(series: Series, than: Series | None) -> float | None:
    """How many times slower, or bigger: above 1 is worse, whichever way the unit runs."""
    if than is None or not series.p50 or not than.p50:
        return None
    return than.p50 / series.p50 if series.higher_is_better else series.p50 / than.p50


def of_limit(series: Series | None, limit: Series | None) -> float | None:
    """How much of what the limit does in the same time."""
    ratio = slower(series, limit) if series is not None else None
    return 1 / ratio if ratio else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    """Three significant digits; whole above a hundred."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def verdicts(told: Iterable[Verdict]) -> Iterator[str]:
    yield f"\nTARGETS{'':{TARGET_WIDTH - 7}} {'measured':>10} {'target':>16}"
    for verdict in told:
        target = verdict.target
        bound = f"{'at least' if target.at_least else 'at most'} {_number(target.bound)}"
        where = f", {verdict.placement}" if len(target.placements) > 1 else ""
        name = f"{target.name}{where}" + (f" [{target.unit}]" if target.unit else "")
        reason = f": {verdict.reason}" if verdict.reason else ""
        yield f"{name:{TARGET_WIDTH}} {_number(verdict.measured):>10} {bound:>16}  {verdict.word}{reason}"


def as_json(
    machine: Mapping[str, Any], settings: Mapping[str, Any], results: Results, told: Iterable[Verdict]
) -> dict[str, Any]:
    return {
        "machine": machine,
        "settings": settings,
        "figures": [_row_as_json(table, row) for table in results.tables() for row in table.rows],
        "targets": [
            {
                "name": verdict.target.name,
                "placement": verdict.placement,
                "unit": verdict.target.unit,
                "measured": verdict.measured,
                "bound": verdict.target.bound,
                "at_least": verdict.target.at_least,
                "verdict": verdict.word,
                "reason": verdict.reason,
            }
            for verdict in told
        ],
    }


def _row_as_json(table: Table, row: Row) -> dict[str, Any]:
    return {
        "group": table.group.name,
        "measure": table.measure,
        "placement": table.placement,
        "contender": row.contender.name,
        "role": row.contender.role,
        "median": dataclasses.asdict(row.series) if row.series else None,
        **({"of limit": of_limit(row.series, _first(table.rows, "limit"))} if table.group.shares else {}),
        "rounds": [dataclasses.asdict(series) for series in row.rounds],
        "unavailable": row.unavailable,
    }
