"""What every way of paging is: requests go out of it, and the page that each brought goes in."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias

from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._pagination.page import Page

Flow: TypeAlias = Generator[Request, Page, None]
