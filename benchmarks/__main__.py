"""The command line of the benchmarks: `benchmarks/run --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import bars, machine, profile, report
from benchmarks.contenders import Contender
from benchmarks.ends import Place
from benchmarks.paths import PATHS
from benchmarks.peers import Peer, installed
from benchmarks.publish import PUBLISHED, publish
from benchmarks.rounds import BESIDE_PEERS, EVERYBODY, FULL, QUICK, called, matching
from benchmarks.runs import Result, Round, Skipped, run_all

_RUNS, _FULL_RUNS = Path("build/benchmarks.json"), Path("build/benchmarks-full.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write; 1 where a run failed or, with --check, memory grows or a ratio got worse."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.publish and options.rounds is not FULL:
        parser.error("--publish is for --full alone")
    if not matching(options.path):
        sys.stderr.write(f"no path is called so; there are {', '.join(path.name for path in PATHS)}\n")
        return 2
    options.json = options.json or (_FULL_RUNS if options.rounds is FULL else _RUNS)
    rounds, skipped = _installed(_rounds(options))
    facts = machine.facts()
    results = report.read_results(options.json, facts) if options.resume else []
    with Place(options.seed, options.folder) as place:
        for came in run_all(rounds, place, {result.key for result in results}):
            if isinstance(came, Skipped):
                skipped.append(came)
                continue
            results.append(came)
            sys.stderr.write(f"{_in_words(came)}\n")
            report.write_json(options.json, facts, results, skipped)
        if options.publish:
            publish(facts, results, skipped, profile.published(place))
    report.write_json(options.json, facts, results, skipped)
    sys.stdout.write(f"{machine.in_words(facts)}\n\n{report.tables(results)}\n\nevery run: {options.json}\n")
    wrong = report.failures(result for result in results if not bars.is_peer(result.contender))
    for line in report.failures(result for result in results if bars.is_peer(result.contender)):
        sys.stdout.write(f"{line}\n")
    if options.check:
        wrong += report.not_flat(results)
        wrong += bars.worse(bars.standings(results, PATHS), report.read_standings(PUBLISHED))
    for entry in skipped:
        sys.stdout.write(f"skipped {', '.join(entry.names)}: {entry.reason}\n")
    for line in wrong:
        sys.stdout.write(f"FAILED {line}\n")
    return 1 if wrong else 0


def _rounds(options: argparse.Namespace) -> tuple[Round, ...]:
    paths = matching(options.path)
    if options.rows:
        names = options.contenders or ["atlas", "limit", "by hand"]
        return tuple(Round(rows, options.repeats or 1, paths, called(*names)) for rows in options.rows)
    chosen = called(*options.contenders) if options.contenders else EVERYBODY
    return tuple(
        replace(
            _only(wanted, chosen),
            repeats=options.repeats or wanted.repeats,
            paths=tuple(path for path in wanted.paths if path in paths),
        )
        for wanted in options.rounds
    )


def _installed(rounds: Sequence[Round]) -> tuple[list[Round], list[Skipped]]:
    """The rounds without the peers that cannot be had here, and why those cannot."""
    wanted = dict.fromkeys(who for each in rounds for who in (*each.contenders, *each.once))
    missing = installed(contender for contender in wanted if isinstance(contender, Peer))
    here = [contender for contender in wanted if contender.name not in missing]
    return [_only(each, here) for each in rounds], [Skipped((name,), why) for name, why in missing.items()]


def _only(wanted: Round, contenders: Collection[Contender]) -> Round:
    return replace(
        wanted,
        contenders=tuple(contender for contender in wanted.contenders if contender in contenders),
        once=tuple(contender for contender in wanted.once if contender in contenders),
    )


def _in_words(result: Result) -> str:
    done = result.error or (
        f"{result.wall_seconds:.2f} s, CPU {result.cpu_seconds:.2f} s, {result.peak_bytes / 1e6:.0f} MB"
    )
    return f"{result.path} {result.contender} {result.rows:,} rows: {done}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run", description="Memory and speed of Atlas's paths, beside the limit of each."
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--quick", dest="rounds", action="store_const", const=QUICK,
        help="the paths that have a bar, at 100k and 300k rows (default)",
    )  # fmt: skip
    amount.add_argument(
        "--full", dest="rounds", action="store_const", const=FULL,
        help="what is published: 2M rows five times, peers, lineitem, memory up to 5M; 35 minutes, 10 GB",
    )  # fmt: skip
    amount.add_argument(
        "--peers", dest="rounds", action="store_const", const=BESIDE_PEERS,
        help="beside other programs, 500k rows; makes their environments in build/peers",
    )  # fmt: skip
    amount.add_argument("--rows", type=int, nargs="+", default=[], metavar="N", help="these sizes")
    parser.add_argument("--repeats", type=int, metavar="N", help="of each size")
    parser.add_argument("--path", nargs="+", default=["*"], metavar="GLOB", help="only these, as 'sqlite->*'")
    parser.add_argument(
        "--contenders", nargs="+", choices=[each.name for each in EVERYBODY], help="only these"
    )
    parser.add_argument(
        "--check", action="store_true",
        help=f"fail where memory at the largest size is over {report.FLAT_FACTOR} x that at the smallest "
        f"+ {report.FLAT_SLACK_MB} MB, or over {report.MOST_MB} MB, or a path is over "
        f"{bars.WORSE_FACTOR} x as far from its limit as published",
    )  # fmt: skip
    parser.add_argument(
        "--publish", action="store_true", help="with --full: write published.json and docs/performance.md"
    )
    parser.add_argument("--resume", action="store_true", help="run only what --json does not hold yet")
    parser.add_argument("--seed", type=int, default=1, help="of the rows (default 1)")
    parser.add_argument("--folder", type=Path, help="where to put everything (default: TMPDIR)")
    parser.add_argument("--json", type=Path, help=f"default {_RUNS}, with --full {_FULL_RUNS}")
    parser.set_defaults(rounds=QUICK)
    return parser


if __name__ == "__main__":
    sys.exit(main())
