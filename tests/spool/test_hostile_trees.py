"""Some of the inboxes that benchmarks/fuzz.py makes a thousand of; and that they would show it."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from sdwatch.spool import candidates
from sdwatch.system import EntryKind, links
from tests.support import hostile_trees
from tests.support.hostile_trees import PIECES, Tree, judge_tree, listing_of, make_tree

SEED, TREES = 12, 40


def folder(root: Path, number: int) -> Path:
    made = root / str(number)
    made.mkdir()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, TREES, 10))
def test_nothing_outside_is_read_or_moved_and_each_plain_job_is_found(
    tmp_path: Path, first: int
) -> None:
    answers = [judge_tree(SEED, n, folder(tmp_path, n)) for n in range(first, first + 10)]
    assert sum(answer.claimed for answer in answers) >= 10
    assert sum(answer.refused for answer in answers) >= 1
    assert sum(answer.swapped for answer in answers) >= 1


def test_the_same_seed_makes_the_same_tree_and_another_one_another(tmp_path: Path) -> None:
    def listing(seed: int, where: str) -> bytes:
        root = tmp_path / where
        root.mkdir()
        made = listing_of(make_tree(seed, 1, root))
        return made.replace(ascii(str(root))[1:-1].encode(), b"")

    assert listing(SEED, "one") == listing(SEED, "two")
    assert listing(SEED, "one-more") != listing(SEED + 1, "other")


@pytest.mark.posix_only("what this system can make is made")
@pytest.mark.parametrize("piece", dict.fromkeys(PIECES), ids=lambda piece: piece.__name__)
def test_each_piece_puts_something_into_the_inbox(
    tmp_path: Path, piece: hostile_trees.Piece
) -> None:
    tree = Tree(tmp_path, Random(SEED))
    tree.spool.prepare()
    hostile_trees._make_outside(tree)
    piece(tree, tree.inbox)
    assert list(tree.inbox.iterdir())


# -- a product that is worse is found out


def judge_all(root: Path) -> None:
    for number in range(TREES):
        judge_tree(SEED, number, folder(root, number))


@pytest.mark.posix_only("wine makes no links, so there is nothing to follow")
@pytest.mark.slow
def test_a_spool_in_which_links_are_followed_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "root_above", lambda _: None)
    with pytest.raises(AssertionError):
        judge_all(tmp_path)


@pytest.mark.posix_only("replaces what POSIX does")
@pytest.mark.slow
def test_a_listing_that_takes_links_for_what_they_lead_to_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdwatch.system import posix_files as posix

    def kind_of(entry: os.DirEntry[str]) -> EntryKind:
        return EntryKind.FOLDER if entry.is_dir() else EntryKind.FILE

    monkeypatch.setattr(posix, "_kind_of", kind_of)
    with pytest.raises(AssertionError):
        judge_all(tmp_path)


@pytest.mark.slow
def test_an_inbox_that_overlooks_a_job_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "JOB_EXTENSIONS", (".yaml",))
    with pytest.raises(AssertionError, match="not found"):
        judge_all(tmp_path)
