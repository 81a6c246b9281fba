"""PostgreSQL's binary COPY format: decoded into Arrow, encoded from it, or passed on as it is."""
