"""As many mutated frames a venue as wanted, by the rules of mutation.py: `make mutants`, or this file with --help."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from itertools import islice
from typing import NamedTuple

import click
from mutation import fault, mutant, smallest
from venue_frames import VENUES

from mdstream.cli.progress import Progress

PIECE = 10_000
"""Frames that a process takes at a time: some 0.3 s."""


class Piece(NamedTuple):
    """Frames `numbers` of a seed."""

    venue: str
    seed: int
    numbers: range


class Failure(NamedTuple):
    """A frame that a venue reads wrongly: what is wrong, and the same with as few bytes as possible."""

    venue: str
    seed: int
    number: int
    reason: str
    frame: bytes

    def __str__(self) -> str:
        again = f"--venue {self.venue} --seed {self.seed} --first {self.number} --frames 1"
        return f"{self.venue}: {self.reason}\n  the smallest frame: {self.frame!r}\n  once more: {again}"


def check(piece: Piece) -> Failure | None:
    """The first failure of a piece, made small."""
    for number in piece.numbers:
        original, frame = mutant(piece.venue, piece.seed, number)
        reason = partial(fault, piece.venue, original)
        if reason(frame) is not None:
            least = smallest(frame, reason)
            return Failure(piece.venue, piece.seed, number, str(reason(least)), least)
    return None


def pieces(venues: tuple[str, ...], seed: int, first: int, frames: int) -> Iterator[Piece]:
    """All pieces, the venues in turn."""
    for begin in range(first, first + frames, PIECE):
        for venue in venues:
            yield Piece(venue, seed, range(begin, min(begin + PIECE, first + frames)))


def failures(work: Iterator[Piece], total: int, jobs: int) -> list[Failure]:
    """Those of the pieces; no further ones are begun after the first failure."""
    found: list[Failure] = []
    done = 0
    with ProcessPoolExecutor(jobs) as pool, Progress("mutated frames", "frames") as progress:
        running: dict[Future[Failure | None], int] = {}
        while True:
            for piece in islice(work, 0 if found else 2 * jobs - len(running)):
                running[pool.submit(check, piece)] = len(piece.numbers)
            if not running:
                return found
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done += running.pop(future)
                if (failure := future.result()) is not None:
                    found.append(failure)
            progress.show(done, done / total)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--venue", "names", default="all", help="all, or some of them, comma-separated.")
@click.option("--frames", default=1_000_000, type=click.IntRange(min=1), help="Of each venue.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Decides what the frames are.")
@click.option(
    "--first", default=0, type=click.IntRange(min=0), help="The first frame's number: to go on, or once more."
)
@click.option("--jobs", default=2, type=click.IntRange(1, 64), help="Processes.")
def command(names: str, frames: int, seed: int, first: int, jobs: int) -> None:
    """Let every venue read frames that went wrong on the way.

    Each is made of an example of the venue's (mdstream/venues/NAME/frames.jsonl). The rules are those of the tests:
    tests/conformance/mutation.py has them. Exits with 1 if a frame breaks one, and shows the smallest that does.

    \b
    Examples:
      tests/conformance/mutate.py                              a million of each venue, in ten minutes
      tests/conformance/mutate.py --venue okx,kraken --seed 7
      tests/conformance/mutate.py --first 1000000              the second million
    """
    venues = tuple(VENUES) if names == "all" else tuple(name.strip() for name in names.split(","))
    if unknown := sorted(set(venues) - set(VENUES)):
        raise click.BadParameter(f"{', '.join(unknown)}: choose from all, {', '.join(VENUES)}", param_hint="--venue")
    total = frames * len(venues)
    found = failures(pieces(venues, seed, first, frames), total, jobs)
    if found:
        click.echo(str(min(found, key=lambda failure: len(failure.frame))), err=True)
        sys.exit(1)
    click.echo(
        f"{total:,} frames, {frames:,} of each of {len(venues)} venues, seed {seed}: every one read as it should be"
    )


if __name__ == "__main__":
    command()
