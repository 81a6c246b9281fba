"""The command line of the benchmarks: `benchmarks/run --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import machine, report
from benchmarks.contenders import CONTENDERS
from benchmarks.ends import Place
from benchmarks.paths import PATHS
from benchmarks.runs import Result, Size, Skipped, run_all

_QUICK = (Size(100_000), Size(300_000))
_FULL = (Size(100_000), Size(1_000_000, repeats=3), Size(5_000_000))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write; 1 where a run failed or, with --check, memory is not flat."""
    options = _parser().parse_args(arguments)
    sizes = tuple(Size(rows, options.repeats or 1) for rows in sorted(options.rows)) or options.sizes
    chosen = [path for path in PATHS if any(fnmatchcase(path.name, glob) for glob in options.path)]
    contenders = [contender for contender in CONTENDERS if contender.name in options.contenders]
    if not chosen:
        sys.stderr.write(f"no path is called so; there are {', '.join(path.name for path in PATHS)}\n")
        return 2
    facts = machine.facts()
    results: list[Result] = []
    skipped: list[Skipped] = []
    with Place(options.seed, options.folder) as place:
        for came in run_all(chosen, contenders, sizes, place):
            if isinstance(came, Skipped):
                skipped.append(came)
                sys.stderr.write(f"skipped {', '.join(came.paths)}: {came.reason}\n")
                continue
            results.append(came)
            done = came.error or (
                f"{came.wall_seconds:.2f} s, CPU {came.cpu_seconds:.2f} s, {came.peak_bytes / 1e6:.0f} MB"
            )
            sys.stderr.write(f"{came.path} {came.contender} {came.rows:,} rows: {done}\n")
    report.write_json(options.json, facts, sizes, results, skipped)
    timed = max(sizes, key=lambda size: (size.repeats, size.rows))
    sys.stdout.write(
        f"{machine.in_words(facts)}\n\n"
        f"{report.memory_table(results)}\n\n"
        f"{timed.rows:,} rows, medians of {timed.repeats}:\n\n"
        f"{report.time_table(results, timed)}\n\n"
        f"{report.limits_table(results)}\n\n"
        f"every run: {options.json}\n"
    )
    wrong = report.failures(results) + (report.not_flat(results) if options.check else [])
    for line in wrong:
        sys.stdout.write(f"FAILED {line}\n")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run", description="Memory and speed of Atlas's paths, beside the limit of each."
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--quick", dest="sizes", action="store_const", const=_QUICK, help="100k and 300k rows (default)"
    )
    amount.add_argument(
        "--full", dest="sizes", action="store_const", const=_FULL,
        help="100k, 1M three times, and 5M rows; needs 10 GB of disk and half an hour",
    )  # fmt: skip
    amount.add_argument("--rows", type=int, nargs="+", default=[], metavar="N", help="these sizes")
    parser.add_argument("--repeats", type=int, metavar="N", help="of each size, with --rows")
    parser.add_argument("--path", nargs="+", default=["*"], metavar="GLOB", help="only these, as 'sqlite->*'")
    parser.add_argument(
        "--contenders", nargs="+", default=["atlas", "limit"], choices=[each.name for each in CONTENDERS],
        help="who runs the paths (default: atlas limit)",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true",
        help=f"fail where memory at the largest size is over {report.FLAT_FACTOR} x that at the smallest "
        f"+ {report.FLAT_SLACK_MB} MB, or over {report.MOST_MB} MB",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="of the rows (default 1)")
    parser.add_argument("--folder", type=Path, help="where to put everything (default: TMPDIR)")
    parser.add_argument(
        "--json", type=Path, default=Path("build/benchmarks.json"), help="default %(default)s"
    )
    parser.set_defaults(sizes=_QUICK)
    return parser


if __name__ == "__main__":
    sys.exit(main())
