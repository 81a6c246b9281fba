"""What is typed at a list, and what it means."""

from __future__ import annotations

import pytest

from atlas_etl.cli.conversation.picking import Narrowed, Picked, read_pick
from atlas_etl.cli.conversation.steps import Choice, Pick

TABLES = Pick(
    "tables",
    tuple(map(Choice, ("orders", "order_lines", "customers", "Audit", "2024", "two words"))),
    many=True,
)
ONE = Pick("protocol", (Choice("mysql", "MariaDB", ("mariadb",)), Choice("sqlite", "a file")), "mysql")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("orders", ("orders",)),
        ("AUDIT", ("Audit",)),
        ("1", ("orders",)),
        ("2024", ("2024",)),
        ("1-3", ("orders", "order_lines", "customers")),
        ("ord*", ("orders", "order_lines")),
        ("orders, 3  aud*", ("orders", "customers", "Audit")),
        ("all", tuple(choice.value for choice in TABLES.choices)),
        ("cust", ("customers",)),
        ("two words", ("two words",)),
        ("o* orders", ("orders", "order_lines")),
    ],
)
def test_numbers_names_patterns_and_parts_of_names(typed: str, meant: tuple[str, ...]) -> None:
    assert read_pick(typed, TABLES) == Picked(meant)


def test_a_part_of_several_names_narrows_the_list_whose_numbers_stay() -> None:
    assert read_pick("order", TABLES) == Narrowed((0, 1))
    assert read_pick("0", TABLES) == Narrowed((4,))
    assert read_pick("e", ONE) == Picked(("sqlite",))
    assert read_pick("maria", ONE) == Picked(("mysql",))


def test_one_of_a_list() -> None:
    assert read_pick("", ONE) == Picked(("mysql",))
    assert read_pick("MariaDB", ONE) == Picked(("mysql",))
    assert read_pick("2", ONE) == Picked(("sqlite",))


@pytest.mark.parametrize(
    ("typed", "question", "why"),
    [
        ("ordes", TABLES, "did you mean 'orders'"),
        ("orders nowhere", TABLES, "there is no 'nowhere' among the 6"),
        ("7", TABLES, "there is no '7'"),
        ("", TABLES, "nothing was picked"),
        ("mysqll", ONE, "did you mean 'mysql'"),
        ("my*", ONE, "there is no"),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest_names(typed: str, question: Pick, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_pick(typed, question)
