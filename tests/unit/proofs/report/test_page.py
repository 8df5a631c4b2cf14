"""Text of a host on a page: visible, on one line where it has to be, and without meaning to Markdown or a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.report import page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words, 0.5 s <= 2 s & more", "plain words, 0.5 s <= 2 s & more"),
        ("overload_after_s", "overload_after_s"),
        ("_a_ *b* `c` ~d~ $e$", "\\_a\\_ \\*b\\* \\`c\\` \\~d\\~ \\$e\\$"),
        ("a|b\\|c", "a\\|b\\\\\\|c"),
        ("[a](b) ![a](b) [10]", "[a\\](b) ![a\\](b) [10]"),
        ("<script>&lt;</a><!-- <3", "&lt;script>&amp;lt;&lt;/a>&lt;!-- <3"),
        ("a\nb\tc\r\x1b[0m\x07\u202e\u2028\ud800", r"a b c\\r\\x1b[0m\\x07\\u202e\\u2028\\ud800"),
    ],
)
def test_inline_text(text: str, expected: str) -> None:
    assert page.inline(text) == expected
    assert page.inline(page.inline(text)) == expected


@given(st.text())
def test_code_block_cannot_be_left(text: str) -> None:
    first, *inside, last = page.fenced(f"{text}\n```\n````text").split("\n")
    assert first.removesuffix("text") == last
    assert set(last) == {"`"}
    assert all(last not in line for line in inside)
    assert all(character.isprintable() or character == "\t" for line in inside for character in line)


def test_write_replaces_a_link_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "page.md").symlink_to("target")
    page.write(tmp_path / "page.md", "new")
    assert ((tmp_path / "target").read_text(), (tmp_path / "page.md").read_text()) == ("mine", "new")
    assert not (tmp_path / "page.md").is_symlink()
