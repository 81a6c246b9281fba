"""Fetches an API's pages one after the other with requests, until one has no records, and discards them."""

from __future__ import annotations

import json
import os
from itertools import count

import requests

_EMPTY = 100  # bytes: a page without records is shorter


def main() -> None:
    url = json.loads(os.environ["BENCHMARK"])["source"]["base_url"]
    with requests.Session() as session:
        for page in count(1):
            if len(session.get(f"{url}/events", params={"page": str(page)}, timeout=60).content) < _EMPTY:
                return


main()
