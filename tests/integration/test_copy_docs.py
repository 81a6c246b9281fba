"""The README's first lines do what it says that they do."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
from tests.project import Project
from tests.servers import ServerAddress

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
MADE = """
CREATE TABLE customers (id bigint PRIMARY KEY, name text, updated_at timestamptz);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint, amount numeric(10,2), updated_at timestamptz);
INSERT INTO customers SELECT n, 'customer ' || n, timestamptz '2026-01-01Z' + n * interval '1 minute'
    FROM generate_series(1, 5000) n;
INSERT INTO orders SELECT n, n % 5000, n / 7.0, timestamptz '2026-01-01Z' + n * interval '1 second'
    FROM generate_series(1, 250000) n;
"""
CHANGED = """
INSERT INTO orders VALUES (250001, 7, 12.50, '2026-01-04 08:00Z');
UPDATE orders SET amount = 9.99, updated_at = '2026-01-04 08:00Z' WHERE id IN (3, 4);
"""


def plain(text: str) -> str:
    """Output without what differs from run to run: times that were taken, names made of an address."""
    timeless = re.sub(r"\d+\.\d+ s", "TIME", re.sub(r" +$", "", text, flags=re.M))
    return re.sub(r"\S+-[0-9a-f]{10}(?=[ :])", "NAME", timeless).rstrip()


def test_the_readme_copies_in_one_line(project: Project, postgres: ServerAddress) -> None:
    section = README.partition("## One line\n")[2].partition("\n## ")[0]
    line, first, second = re.findall(r"```\n(.*?)\n```", section, re.S)
    assert line.startswith("atlas copy '${env:PG_URL}' ")
    arguments = line.replace("'", "").split()[1:]
    with psycopg.connect(postgres.url("postgresql"), autocommit=True) as connection:
        for statements, expected in ((MADE, first), (CHANGED, second)):
            connection.execute(statements.encode())
            done = project.atlas(*arguments, env={"PG_URL": postgres.url("postgresql")})
            assert done.returncode == 0, done.stderr
            assert plain(done.stderr + done.stdout) == plain(expected), done.stderr + done.stdout
