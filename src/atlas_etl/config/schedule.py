"""Cron expressions as definitions may have them: five fields, or one of crontab's names."""

from __future__ import annotations

_NAMES = frozenset({"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"})
_FIELDS = 5


def check_schedule(text: str) -> str:
    """The expression, if it names at least one date. Raises ValueError.

    Fields as in crontab(5): minute, hour, day of month, month, day of week. croniter's own extensions
    (seconds, years, random `R` and hashed `H` fields) are refused, for crontab does not know them.
    """
    from croniter import croniter  # takes longer to load than definitions without a schedule to check

    expression = " ".join(text.split())
    if expression in _NAMES:
        return expression
    fields = expression.split(" ")
    known = len(fields) == _FIELDS and not any(field[:1] in "RrHh" for field in fields)
    if not known or not croniter.is_valid(expression, strict=True):
        raise ValueError(
            "should be five cron fields that name a date, as in `0 6 * * *`, or @hourly, @daily, @weekly"
        )
    return expression
