"""What libraries write into logs, without its secrets: queries, and what AWS signatures are of."""

from __future__ import annotations

import logging


def redact() -> None:
    """Let no secret into the logs of urllib3 and botocore, however much they are asked to tell."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_without_query)
    # Its canonical requests hold the session token.
    logging.getLogger("botocore.auth").setLevel(logging.INFO)


def _without_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(part.partition("?")[0] if isinstance(part, str) else part for part in record.args)
    return True
