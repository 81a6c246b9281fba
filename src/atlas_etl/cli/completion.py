"""Arguments whose values the shell completes, as Typer is told of them.

It is `completing.py` that answers a shell; it finds the same functions by `commands.json`, without Typer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from msgspec import Struct

from atlas_etl.cli.candidates import Line, connectors, error_codes, secrets
from atlas_etl.cli.destination_candidates import destinations
from atlas_etl.cli.protocol_candidates import protocols
from atlas_etl.cli.stream_candidates import streams


class Completes(Struct, frozen=True):
    """Candidates, as Typer asks for them: by the method, whose annotations it reads.

    It tells no arguments of a command whose last option has no value yet, so it finds no streams.
    """

    candidates: Callable[[Line], list[str]]

    def complete(self, ctx: typer.Context, incomplete: str) -> list[str]:
        found = self.candidates(Line(ctx.find_root().params.get("project")))
        return [candidate for candidate in found if candidate.startswith(incomplete)]


CONNECTORS = Completes(connectors).complete
SECRETS = Completes(secrets).complete
STREAMS = Completes(streams).complete
ERROR_CODES = Completes(error_codes).complete
PROTOCOLS = Completes(protocols).complete
DESTINATIONS = Completes(destinations).complete

Name = Annotated[str, typer.Argument(metavar="NAME", help="The connector.", autocompletion=CONNECTORS)]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="The connectors.", autocompletion=CONNECTORS),
]
Streams = Annotated[
    list[str] | None,
    typer.Option("--stream", help="Only this stream; may be repeated.", autocompletion=STREAMS),
]
