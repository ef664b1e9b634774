"""The steps of an installation, each undone where a later one fails, and the names of services."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from sdwatch.errors import ServiceError
from sdwatch.service.definition import service_name
from sdwatch.service.manager import Step, perform, ran, written


@pytest.mark.parametrize("name", ["sdwatch", "night", "a-1"])
def test_a_service_of_another_program_cannot_be_meant(name: str) -> None:
    assert service_name(name) in (f"sdwatch-{name}", "sdwatch")


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a", "a-", "A", "a.b", "x" * 31, "ssh\n"])
def test_an_odd_name_is_refused(name: str) -> None:
    with pytest.raises(ServiceError, match="cannot be the name"):
        service_name(name)


FULL = OSError("the disk is full")


def some_steps(seen: list[str], fails_at: int, failure: BaseException = FULL) -> Sequence[Step]:
    def step(number: int) -> Step:
        def do() -> None:
            if number == fails_at:
                raise failure
            seen.append(f"do {number}")

        return Step(f"step {number}", do, lambda: seen.append(f"undo {number}"))

    return [step(number) for number in range(3)]


def test_a_step_that_fails_undoes_those_before_it() -> None:
    seen: list[str] = []
    with pytest.raises(ServiceError, match="step 2: the disk is full; what was done before is und"):
        perform(some_steps(seen, fails_at=2), seen.append)
    assert seen == ["do 0", "step 0", "do 1", "step 1", "undo 1", "undo 0"]


def test_a_signal_in_the_middle_undoes_the_step_that_it_interrupts_too() -> None:
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        perform(some_steps(seen, 1, KeyboardInterrupt()), lambda _: None)
    assert seen == ["do 0", "undo 1", "undo 0"]


def test_what_stays_is_not_called_undone() -> None:
    """A service that was stopped, and then cannot be removed."""
    steps = [Step("stop it", lambda: None), *some_steps([], fails_at=0)]
    with pytest.raises(ServiceError, match=r"^step 0: the disk is full$"):
        perform(steps, lambda _: None)


def test_a_first_step_that_fails_has_nothing_to_undo() -> None:
    with pytest.raises(ServiceError, match=r"^step 0: the disk is full$"):
        perform(some_steps([], fails_at=0), lambda _: None)


def test_what_cannot_be_undone_is_named(tmp_path: Path) -> None:
    unit = tmp_path / "folder" / "unit"

    def no_bus() -> None:
        raise ServiceError("sh failed with 3: no bus")

    def fail() -> None:
        raise ServiceError("no")

    left = re.escape(f"undoing this failed: write {unit} (sh failed with 3: no bus)")
    with pytest.raises(ServiceError, match=left):
        perform([written(unit, b"text", no_bus), Step("try", fail)], lambda _: None)
    assert not list(tmp_path.iterdir())


def test_a_file_is_taken_back_with_the_folders_that_were_made_for_it(tmp_path: Path) -> None:
    theirs = tmp_path / "systemd"
    theirs.mkdir()
    steps = [written(theirs / "user" / "units" / "unit", b"text"), *some_steps([], fails_at=0)]
    with pytest.raises(ServiceError, match="what was done before is undone"):
        perform(steps, lambda _: None)
    assert list(tmp_path.rglob("*")) == [theirs]


def test_a_folder_that_others_use_by_now_stays(tmp_path: Path) -> None:
    folder = tmp_path / "user"
    another = Step("another unit", (folder / "theirs").touch)
    with pytest.raises(ServiceError, match="what was done before is undone"):
        perform([written(folder / "unit", b""), another, *some_steps([], 0)], lambda _: None)
    assert [path.name for path in folder.iterdir()] == ["theirs"]


def test_a_file_that_is_there_already_is_neither_replaced_nor_undone(tmp_path: Path) -> None:
    theirs = tmp_path / "unit"
    theirs.write_text("theirs")
    with pytest.raises(ServiceError):
        perform([written(theirs, b"ours")], lambda _: None)
    assert theirs.read_text() == "theirs"


@pytest.mark.posix_only("its commands are run by sh")
def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(ServiceError, match="sh failed with 3: no bus"):
        perform([ran("sh", "-c", "echo no bus >&2; exit 3")], lambda _: None)
    perform([ran("sh", "-c", "exit 3", may_fail=True)], lambda _: None)
    with pytest.raises(ServiceError, match="could not be run"):
        perform([ran("/no/such/program")], lambda _: None)
