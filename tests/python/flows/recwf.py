"""Workflows that were run on Go Flyte 1.16.8; test_recorded compares how they end here."""

import dataclasses
import datetime
import enum
import os
import typing

from flytekit import Resources, WorkflowFailurePolicy, conditional, task, workflow
from flytekit.exceptions.user import FlyteRecoverableException
from flytekit.types.directory import FlyteDirectory
from flytekit.types.error import FlyteError
from flytekit.types.file import FlyteFile

class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"

@dataclasses.dataclass
class Point:
    x: int
    y: float
    tags: typing.List[str] = dataclasses.field(default_factory=list)
    size: typing.Optional[str] = None

@task(requests=Resources(cpu="200m", mem="200Mi"), limits=Resources(cpu="1", mem="1Gi"), retries=2, interruptible=True, environment={"A": "b"},
      cache=True, cache_version="1.0", timeout=datetime.timedelta(minutes=5), docs=None)
def square(n: int) -> int:
    """Squares a number."""
    return n * n

@task
def join(items: typing.List[int], p: Point, s: Size) -> str:
    return f"{items}-{p.x}-{s.value}"

@task
def make_point(x: int) -> Point:
    return Point(x=x, y=0.5, tags=["t"])

@workflow
def bindings(n: int = 3, s: Size = Size.LARGE) -> typing.Tuple[str, int]:
    """Lists, promises into a dataclass, an enum, defaults."""
    a = square(n=n)
    b = square(n=2)
    p = make_point(x=a)
    j = join(items=[a, b, 7], p=p, s=s)
    c = square(n=p.x)
    return j, c

@task
def negate(n: int) -> int:
    return -n

@workflow
def sub(n: int) -> int:
    return negate(n=square(n=n))

@workflow
def nested(n: int = 2) -> int:
    x = sub(n=n).with_overrides(node_name="the-sub")
    return sub(n=x)

@workflow
def branches(n: int = 4, flag: bool = True) -> int:
    return (conditional("outer").if_((n > 3) & (flag.is_true())).then(
        conditional("inner").if_(n == 4).then(square(n=n)).else_().then(negate(n=n)))
        .elif_(n == 0).then(negate(n=n)).else_().fail("n is out of range"))

@task
def clean_up(n: int, err: typing.Optional[FlyteError] = None):
    print("cleaning", n, err)

@task
def boom(n: int) -> int:
    if n >= 0:
        raise ValueError(f"bad {n}")
    return n

@workflow(on_failure=clean_up)
def failing(n: int = 9) -> int:
    return boom(n=n)

@task(retries=2)
def recoverable(n: int) -> int:
    if n >= 0:
        raise FlyteRecoverableException("try again")
    return n

@workflow(failure_policy=WorkflowFailurePolicy.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE)
def policy(n: int = 1) -> int:
    r = recoverable(n=n)
    ok = negate(n=n)
    return ok

@task
def write(text: str) -> FlyteFile:
    open("out.txt", "w").write(text)
    return FlyteFile("out.txt")

@task
def to_dir(f: FlyteFile) -> FlyteDirectory:
    os.makedirs("d", exist_ok=True)
    open("d/a", "w").write(open(f).read())
    return FlyteDirectory("d")

@workflow
def files(text: str = "words") -> FlyteDirectory:
    return to_dir(f=write(text=text))

@task
def everything(i: int, f: float, s: str, b: bool, d: datetime.datetime, t: datetime.timedelta, l: typing.List[int], m: typing.Dict[str, float],
               o: typing.Optional[int], u: typing.Union[int, str], e: Size, p: Point) -> typing.Dict[str, typing.List[int]]:
    return {"a": [i]}

@workflow
def all_types(i: int = 1, f: float = 1.5, s: str = "s", b: bool = True, d: datetime.datetime = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc),
              t: datetime.timedelta = datetime.timedelta(seconds=90), l: typing.List[int] = [1, 2], m: typing.Dict[str, float] = {"x": 1.0},
              o: typing.Optional[int] = None, u: typing.Union[int, str] = "u", e: Size = Size.SMALL, p: Point = Point(1, 2.0)) -> typing.Dict[str, typing.List[int]]:
    return everything(i=i, f=f, s=s, b=b, d=d, t=t, l=l, m=m, o=o, u=u, e=e, p=p)
