"""The crash harness: real syncs under concurrent writes are killed, and then the rows are counted.

`pytest tests/crash` runs a short version; `python -m tests.crash --kills 200` the long one, whose report
docs/exactness.md quotes.
"""
