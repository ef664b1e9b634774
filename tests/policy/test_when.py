"""When a job may start: times, windows of the local day, and both changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from sdwatch.policy.job.conduct import Conduct, conduct_of
from sdwatch.policy.job.when import (
    Offset,
    TimeField,
    When,
    Window,
    instant_of,
    local,
    parse_time,
    parse_window,
    waits_in_words,
)
from tests.support.tables import table


def in_zone(name: str) -> Offset:
    try:
        zone = ZoneInfo(name)
    except ZoneInfoNotFoundError:  # Windows without the package tzdata
        pytest.skip("there is no database of time zones here")

    def offset(instant: float) -> float:
        here = datetime.fromtimestamp(instant, UTC).astimezone(zone).utcoffset()
        assert here is not None
        return here.total_seconds()

    return offset


def utc(_: float) -> float:
    return 0.0


def at(text: str) -> float:
    """The instant of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def opens(windows: list[str], now: str, offset: Offset = utc) -> str:
    """When a job with these windows may start, in UTC; `now` where it may at once."""
    waits = When(only=tuple(map(parse_window, windows))).waits(at(now), offset)
    if waits is None:
        return "now"
    assert waits.field is TimeField.ONLY
    return datetime.fromtimestamp(waits.until, UTC).strftime("%Y-%m-%d %H:%M")


NIGHT = ["22:00-07:00"]


@table(
    ("windows", "now", "expected"),
    [
        (NIGHT, "2026-11-30 21:59:59", "2026-11-30 22:00"),
        (NIGHT, "2026-11-30 22:00", "now"),
        (NIGHT, "2026-11-30 23:59", "now"),
        (NIGHT, "2026-12-01 00:00", "now"),
        (NIGHT, "2026-12-01 06:59:59", "now"),
        (NIGHT, "2026-12-01 07:00", "2026-12-01 22:00"),
        (["12:00-13:00", "22:00-07:00"], "2026-12-01 08:00", "2026-12-01 12:00"),
        (["12:00-13:00", "22:00-07:00"], "2026-12-01 13:00", "2026-12-01 22:00"),
        (["22:00-24:00", "00:00-07:00"], "2026-12-01 00:00", "now"),
        (["00:00-24:00"], "2026-12-01 00:00", "now"),
        (["mon-fri 22:00-07:00"], "2026-11-28 06:59", "now"),  # Friday's, on Saturday
        (["mon-fri 22:00-07:00"], "2026-11-28 07:00", "2026-11-30 22:00"),
        (["sat,sun 00:00-24:00"], "2026-11-30 00:00", "2026-12-05 00:00"),
        (["fri-mon 01:00-02:00"], "2026-12-01 12:00", "2026-12-04 01:00"),
        (["Wednesday 01:00-02:00"], "2026-12-02 02:00", "2026-12-09 01:00"),
    ],
)
def test_a_window_is_open_from_its_start_until_just_before_its_end(
    windows: list[str], now: str, expected: str
) -> None:
    assert opens(windows, now) == expected


# In Berlin: 2026-03-29 02:00 CET -> 03:00 CEST (01:00 UTC); 2026-10-25 03:00 CEST -> 02:00 CET.


@table(
    ("windows", "now", "expected"),
    [
        (NIGHT, "2026-03-28 20:59", "2026-03-28 21:00"),
        (NIGHT, "2026-03-29 04:59", "now"),
        (NIGHT, "2026-03-29 05:00", "2026-03-29 20:00"),  # the night had eight hours
        (["02:30-06:00"], "2026-03-29 00:30", "2026-03-29 01:00"),  # 02:30 is skipped: at 03:00
        (["22:00-02:30"], "2026-03-29 00:59", "now"),
        (["22:00-02:30"], "2026-03-29 01:00", "2026-03-29 20:00"),
        (["02:10-02:50"], "2026-03-29 00:30", "2026-03-30 00:10"),  # nothing of it is left
    ],
)
def test_a_time_that_summer_time_skips_is_the_moment_of_the_change(
    windows: list[str], now: str, expected: str
) -> None:
    assert opens(windows, now, in_zone("Europe/Berlin")) == expected


@table(
    ("windows", "now", "expected"),
    [
        (NIGHT, "2026-10-24 20:00", "now"),
        (NIGHT, "2026-10-25 05:59", "now"),  # ten hours
        (NIGHT, "2026-10-25 06:00", "2026-10-25 21:00"),
        (["02:15-06:00"], "2026-10-25 00:14", "2026-10-25 00:15"),
        (["02:15-06:00"], "2026-10-25 01:05", "now"),  # 02:05 once more: it does not close again
        (["22:00-02:30"], "2026-10-25 00:29", "now"),
        (["22:00-02:30"], "2026-10-25 00:30", "2026-10-25 21:00"),
        (["22:00-02:30"], "2026-10-25 01:10", "2026-10-25 21:00"),  # nor does this one open again
    ],
)
def test_a_time_that_comes_twice_is_the_first_one(
    windows: list[str], now: str, expected: str
) -> None:
    assert opens(windows, now, in_zone("Europe/Berlin")) == expected


@pytest.mark.slow
@table("zone", ["Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns"])
def test_every_instant_is_either_in_a_window_or_waits_for_its_next_start(zone: str) -> None:
    """Also where clocks change by half an hour, or a whole day was skipped. Each step meets another
    minute of the hour."""
    offset, when = in_zone(zone), When(only=(parse_window("22:00-07:00"),))
    for start in ("2026-03-27", "2026-04-03", "2026-10-02", "2026-11-01", "2011-12-28"):
        now = at(start)
        for minute in range(0, 4 * 1440, 31):
            waits = when.waits(now + 60 * minute, offset)
            if waits is not None:
                assert waits.until > now + 60 * minute
                assert when.waits(waits.until, offset) is None
                assert when.waits(waits.until - 1, offset) is not None


def test_a_clock_that_jumps_is_believed_at_once() -> None:
    when = When(only=(parse_window("22:00-07:00"),))
    assert when.waits(at("2026-12-01 12:00"), utc) is not None
    assert when.waits(at("2026-12-01 23:00"), utc) is None
    assert when.waits(at("2026-12-01 12:00"), utc) is not None


@table(
    ("text", "zone", "expected"),
    [
        ("2026-12-01 22:00", "Europe/Berlin", "2026-12-01 21:00"),
        ("2026-12-01T22:00:00Z", "Europe/Berlin", "2026-12-01 22:00"),
        ("2026-12-01 22:00 +05:30", "Europe/Berlin", "2026-12-01 16:30"),
        ("2026-12-01 9:05-0800", "Europe/Berlin", "2026-12-01 17:05"),
        ("2026-12-01", "Europe/Berlin", "2026-11-30 23:00"),
        ("2026-03-29 02:30", "Europe/Berlin", "2026-03-29 01:00"),
        ("2026-10-25 02:30", "Europe/Berlin", "2026-10-25 00:30"),
    ],
)
def test_a_time_has_a_zone_or_is_local(text: str, zone: str, expected: str) -> None:
    assert instant_of(parse_time(text), in_zone(zone)) == at(expected)


def test_not_before_and_a_window_hold_together() -> None:
    when = When(parse_time("2026-12-03 12:00Z"), (parse_window("22:00-07:00"),))
    waits = when.waits(at("2026-12-01 23:00"), utc)
    assert waits is not None
    assert (waits.until, waits.field) == (at("2026-12-03 22:00"), TimeField.ONLY)
    in_the_window = When(parse_time("2026-12-03 23:30Z"), (parse_window("22:00-07:00"),))
    waits = in_the_window.waits(at("2026-12-01 23:00"), utc)
    assert waits is not None
    assert (waits.until, waits.field) == (at("2026-12-03 23:30"), TimeField.NOT_BEFORE)
    assert in_the_window.waits(at("2026-12-03 23:30"), utc) is None
    assert When().waits(at("2026-12-01 23:00"), utc) is None


def test_status_says_until_when_and_why() -> None:
    berlin, now = in_zone("Europe/Berlin"), at("2026-12-01 12:00")
    night = When(only=(parse_window("22:00-07:00"),)).waits(now, berlin)
    assert night is not None
    assert waits_in_words(night, now, berlin) == "waits until 22:00: only"
    later = When(parse_time("2026-12-04 09:30")).waits(now, berlin)
    assert later is not None
    assert waits_in_words(later, now, berlin) == "waits until 2026-12-04 09:30: not_before"
    assert local(now, berlin) == datetime(2026, 12, 1, 13)


@table(
    "text",
    ["", "22:00", "22-07", "22:00-22:00", "24:00-07:00", "22:60-07:00", "25:00-07:00",
     "22:00-24:01", "someday 22:00-07:00", "mon- 22:00-07:00", ", 22:00-07:00", "mon22:00-07:00",
     "22:00-07:00 mon"],
)  # fmt: skip
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_window(text)


@table(
    "text",
    ["", "22:00", "tomorrow", "2026-13-01", "2026-12-01 25:00", "2026-12-01 22:00 CET",
     "0001-01-01", "9999-12-31", "01.12.2026", "2026-12-01 22"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_time(text)


def test_a_job_without_any_of_it_may_start_and_has_no_limit() -> None:
    assert conduct_of({}) == Conduct()
    assert conduct_of({"only": ["22:00-07:00"]}).when.only == (Window(1320, 420),)
