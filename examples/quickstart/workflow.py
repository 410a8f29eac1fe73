"""Counts the words of a text: several tasks, a file, a dataclass and a branch.

Run it with stock flytekit against a running `flyte start`:

    pyflyte run --remote examples/quickstart/workflow.py report --text "to be or not to be" --wanted 4

or on no backend at all, by leaving out `--remote`. `make demo` does all of it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Tuple

from flytekit import Resources, conditional, task, workflow
from flytekit.types.file import FlyteFile

SMALL = Resources(cpu="500m", mem="300Mi")


@dataclass
class Statistics:
    """What is known about a text."""

    words: int
    distinct: int
    most_common: str


@task(requests=SMALL)
def write(text: str) -> FlyteFile:
    """Keeps the text as a file, one word a line; the next task downloads it from the blob store."""
    path = "words.txt"
    with open(path, "w") as file:
        file.write("\n".join(text.split()))
    return FlyteFile(path)


@task(requests=SMALL)
def measure(file: FlyteFile) -> Statistics:
    with open(file) as lines:
        words = Counter(line.strip().lower() for line in lines)
    return Statistics(
        words=sum(words.values()),
        distinct=len(words),
        most_common=max(sorted(words), key=words.get),
    )


@task(requests=SMALL)
def praise(statistics: Statistics) -> str:
    return f"A rich text: {statistics.distinct} distinct words of {statistics.words}."


@task(requests=SMALL)
def encourage(statistics: Statistics) -> str:
    return f"Only {statistics.distinct} distinct words; {statistics.most_common!r} stands there most often."


@workflow
def report(text: str = "to be or not to be that is the question", wanted: int = 5) -> Tuple[str, Statistics, FlyteFile]:
    """Praises a text that has at least `wanted` distinct words."""
    file = write(text=text)
    statistics = measure(file=file)
    verdict = (
        conditional("rich enough")
        .if_(statistics.distinct >= wanted)
        .then(praise(statistics=statistics))
        .else_()
        .then(encourage(statistics=statistics))
    )
    return verdict, statistics, file
