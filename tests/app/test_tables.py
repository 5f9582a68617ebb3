"""Tables for terminals: numbers to the right, words and digests to the left."""

from __future__ import annotations

from app.reporting.tables import align_table


def test_numbers_with_units_stand_at_the_right_and_digests_at_the_left() -> None:
    rows = [
        ("2d9975425e2c", "96.28 %", "0.0245 ms", "24.4 K", "1,234", "-", "1e-05"),
        ("5da8f0afab85", "7.40 %", "12.1 ms", "879", "5", "\N{EN DASH}", "\N{MINUS SIGN}0.5"),
    ]
    lines = align_table(("digest", "accuracy", "latency", "macs", "size", "a", "b"), rows).split(
        "\n"
    )
    assert lines[0].startswith("digest        accuracy")
    assert lines[2] == "2d9975425e2c   96.28 %  0.0245 ms  24.4 K  1,234  -  1e-05"
    assert (
        lines[3]
        == "5da8f0afab85    7.40 %    12.1 ms     879      5  \N{EN DASH}   \N{MINUS SIGN}0.5"
    )


def test_a_column_with_a_word_stands_at_the_left() -> None:
    lines = align_table(("name", "n"), [("a", "3"), ("bcd", "failed")]).split("\n")
    assert lines[2:] == ["a     3", "bcd   failed"]
