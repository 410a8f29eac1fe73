"""The workflows that the suites run. Tasks ask for little, so that several fit on a small machine."""

import dataclasses
import datetime
import enum
import functools
import os
import time
import typing

import pandas
from flytekit import (
    Deck,
    LaunchPlan,
    Resources,
    approve,
    conditional,
    current_context,
    dynamic,
    kwtypes,
    map_task,
    sleep,
    task,
    wait_for_input,
    workflow,
)
from flytekit.exceptions.user import FlyteRecoverableException
from flytekit.extras.tasks.shell import OutputLocation, ShellTask
from flytekit.types.directory import FlyteDirectory
from flytekit.types.file import FlyteFile
from flytekit.types.structured import StructuredDataset

# flytekit with pandas holds some 200 MiB, and limits are enforced.
SMALL = Resources(cpu="250m", mem="400Mi")


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclasses.dataclass
class Point:
    x: int
    y: float
    tags: typing.List[str] = dataclasses.field(default_factory=list)
    note: typing.Optional[str] = None


@task(requests=SMALL)
def double(n: int) -> int:
    return 2 * n


@task(requests=SMALL)
def add(a: int, b: int) -> int:
    return a + b


@workflow
def chain(n: int = 1) -> int:
    return add(a=double(n=n), b=3)


chain_of_five = LaunchPlan.get_or_create(chain, "chain_of_five", fixed_inputs={"n": 5})


@workflow
def inner(n: int) -> int:
    return double(n=double(n=n))


@workflow
def middle(n: int) -> int:
    return inner(n=double(n=n))


@workflow
def nested(n: int = 1) -> int:
    return add(a=middle(n=n), b=inner(n=n))


@workflow
def branches(n: int) -> int:
    return (
        conditional("size")
        .if_(n > 100)
        .then(inner(n=n))
        .elif_((n > 10) & (n <= 100))
        .then(conditional("exact").if_(n == 50).then(add(a=n, b=1)).else_().then(double(n=n)))
        .elif_(n == 0)
        .then(add(a=n, b=7))
        .else_()
        .fail("n is out of range")
    )


@task(requests=SMALL)
def scalars(
    i: int, f: float, s: str, b: bool, d: datetime.datetime, t: datetime.timedelta, day: datetime.date
) -> typing.Tuple[int, float, str, bool, datetime.datetime, datetime.timedelta, datetime.date]:
    return i, f, s, b, d, t, day


@workflow
def all_scalars(
    i: int, f: float, s: str, b: bool, d: datetime.datetime, t: datetime.timedelta, day: datetime.date
) -> typing.Tuple[int, float, str, bool, datetime.datetime, datetime.timedelta, datetime.date]:
    return scalars(i=i, f=f, s=s, b=b, d=d, t=t, day=day)


@task(requests=SMALL)
def containers(
    items: typing.List[typing.List[int]],
    table: typing.Dict[str, float],
    point: Point,
    size: Size,
    either: typing.Union[int, str],
    maybe: typing.Optional[int] = None,
) -> typing.Tuple[typing.List[typing.List[int]], typing.Dict[str, float], Point, Size, typing.Union[int, str], typing.Optional[int]]:
    return items, table, dataclasses.replace(point, note=size.value), size, either, maybe


@workflow
def all_containers(
    items: typing.List[typing.List[int]],
    table: typing.Dict[str, float],
    point: Point,
    size: Size,
    either: typing.Union[int, str],
    maybe: typing.Optional[int] = None,
) -> typing.Tuple[typing.List[typing.List[int]], typing.Dict[str, float], Point, Size, typing.Union[int, str], typing.Optional[int]]:
    return containers(items=items, table=table, point=point, size=size, either=either, maybe=maybe)


@task(requests=SMALL)
def shout(file: FlyteFile) -> FlyteFile:
    with open(file) as source, open("loud.txt", "w") as target:
        target.write(source.read().upper())
    return FlyteFile("loud.txt")


@task(requests=SMALL)
def names(folder: FlyteDirectory) -> typing.Tuple[FlyteDirectory, typing.List[str]]:
    local = folder.download()
    found = sorted(os.listdir(local))
    os.makedirs("copy/deep", exist_ok=True)
    for name in found:
        with open(f"copy/deep/{name}", "w") as target:
            target.write(name)
    return FlyteDirectory("copy"), found


@task(requests=SMALL)
def older(people: StructuredDataset) -> StructuredDataset:
    frame = people.open(pandas.DataFrame).all()
    frame["age"] = frame["age"] + 1
    return StructuredDataset(dataframe=frame)


@workflow
def blobs(
    file: FlyteFile, folder: FlyteDirectory, people: StructuredDataset
) -> typing.Tuple[FlyteFile, FlyteDirectory, typing.List[str], StructuredDataset]:
    copied, found = names(folder=folder)
    return shout(file=file), copied, found, older(people=people)


@task(requests=SMALL)
def refuse(n: int) -> int:
    if n >= 0:
        raise ValueError(f"{n} is not wanted here")
    return n


@workflow
def failing(n: int = 9) -> int:
    return double(n=refuse(n=n))


@task(requests=SMALL, retries=3)
def third_time_lucky() -> int:
    attempt = int(os.environ["FLYTE_ATTEMPT_NUMBER"])
    if attempt < 2:
        raise FlyteRecoverableException(f"attempt {attempt} fails")
    return attempt


@workflow
def recovering() -> int:
    return third_time_lucky()


@task(requests=SMALL, timeout=datetime.timedelta(seconds=8))
def too_slow() -> int:
    time.sleep(600)
    return 1


@workflow
def timing_out() -> int:
    return too_slow()


@task(requests=SMALL)
def dawdle() -> int:
    time.sleep(600)
    return 1


@workflow
def endless() -> int:
    return dawdle()


greet = ShellTask(
    name="flows.greet",
    script="""
    set -e
    test "{ctx.execution_id}" != ""
    printf 'hello {inputs.name}' > {outputs.greeting}
    """,
    inputs=kwtypes(name=str),
    output_locs=[OutputLocation(var="greeting", var_type=FlyteFile, location="greeting.txt")],
    requests=SMALL,
)


@workflow
def shell(name: str = "world") -> FlyteFile:
    return greet(name=name)


@task(requests=SMALL, enable_deck=True)
def decorated(n: int) -> int:
    Deck("numbers", f"<b>the number is {n}</b>")
    current_context().default_deck.append("<i>shown</i>")
    return n


@workflow
def with_deck(n: int = 4) -> int:
    return decorated(n=n)


@workflow
def overridden(n: int = 4) -> int:
    return double(n=n).with_overrides(requests=Resources(cpu="300m", mem="300Mi"), limits=Resources(cpu="600m", mem="600Mi"))


@workflow
def too_large(n: int = 4) -> int:
    return double(n=n).with_overrides(requests=Resources(cpu="900"), limits=Resources(cpu="900"))


# The whole tree of fifty starts fifty interpreters, so the nodes do nothing else.
step = ShellTask(
    name="flows.step",
    script="printf {inputs.n} > {outputs.number}",
    inputs=kwtypes(n=int),
    output_locs=[OutputLocation(var="number", var_type=FlyteFile, location="number.txt")],
    requests=Resources(cpu="200m", mem="250Mi"),
)


@workflow
def fan_out() -> typing.List[FlyteFile]:
    return [step(n=n) for n in range(50)]


@task(requests=SMALL, pod_template_name="suite")
def from_template() -> str:
    return os.environ["FROM_TEMPLATE"]


@workflow
def templated() -> str:
    return from_template()


@task(requests=SMALL, pod_template_name="nowhere")
def from_nowhere() -> int:
    return 1


@workflow
def template_missing() -> int:
    return from_nowhere()


@workflow
def mapped(numbers: typing.List[int] = [1, 2]) -> typing.List[int]:
    return map_task(double)(n=numbers)


inner_plan = LaunchPlan.get_or_create(inner, "inner_plan")
endless_plan = LaunchPlan.get_or_create(endless, "endless_plan")
failing_plan = LaunchPlan.get_or_create(failing, "failing_plan", default_inputs={"n": 7})


@task(requests=SMALL)
def odd(n: int) -> int:
    if n % 2 == 0:
        raise ValueError(f"{n} is even")
    return n


@task(requests=SMALL, retries=2)
def second_time(n: int) -> int:
    """Succeeds in its second attempt where `n` is even."""
    if n % 2 == 0 and os.environ["FLYTE_ATTEMPT_NUMBER"] == "0":
        raise FlyteRecoverableException("not yet")
    return n


@workflow
def mapped_one_by_one(numbers: typing.List[int] = [1, 2, 3]) -> typing.List[int]:
    return map_task(functools.partial(add, b=10), concurrency=1)(a=numbers)


@workflow
def mapped_partly(numbers: typing.List[int] = [1, 2, 3]) -> typing.List[typing.Optional[int]]:
    return map_task(odd, min_success_ratio=0.6)(n=numbers)


@workflow
def mapped_retried(numbers: typing.List[int] = [1, 2]) -> typing.List[int]:
    return map_task(second_time)(n=numbers)


@workflow
def mapped_plans(numbers: typing.List[int] = [1, 2]) -> typing.List[int]:
    return map_task(inner_plan)(n=numbers)


@workflow
def launching(n: int = 3) -> int:
    """Two executions of their own, the second from the first one's output."""
    return add(a=inner_plan(n=chain_of_five()), b=n)


@workflow
def launching_what_fails():
    failing_plan()


@workflow
def launching_what_never_ends():
    endless_plan()


@workflow
def gated(n: int = 2) -> int:
    given = wait_for_input("number", timeout=datetime.timedelta(hours=1), expected_type=int)
    total = add(a=given, b=n)
    approved = approve(total, "approval", timeout=datetime.timedelta(hours=1))
    rest = sleep(datetime.timedelta(seconds=1))
    doubled = double(n=approved)
    rest >> doubled
    return doubled


@dynamic(requests=SMALL)
def doubles_of(k: int) -> typing.List[int]:
    return [double(n=i) for i in range(k)]


@dynamic(requests=SMALL)
def counted_down(n: int) -> int:
    """A dynamic task in a dynamic task, down to a sub-workflow beside an execution of its own."""
    if n == 0:
        return add(a=inner(n=1), b=inner_plan(n=2))
    return add(a=counted_down(n=n - 1), b=n)


@dynamic(requests=SMALL)
def asks_for_the_unwanted() -> int:
    return refuse(n=7)


@workflow
def made_at_run_time(n: int = 2) -> typing.Tuple[typing.List[int], int]:
    return doubles_of(k=n), counted_down(n=n)


@workflow
def made_to_fail() -> int:
    return asks_for_the_unwanted()


@task(cache=True, cache_version="1", requests=SMALL)
def remembered(n: int) -> float:
    return time.time()


@task(cache=True, cache_version="1", cache_serialize=True, requests=SMALL)
def one_at_a_time(n: int) -> float:
    time.sleep(3)
    return time.time()


@dynamic(cache=True, cache_version="1", requests=SMALL)
def remembered_at_run_time(n: int) -> float:
    # Another entry than that of the task beside it.
    return remembered(n=n + 1000)


@workflow
def remembering(n: int) -> typing.Tuple[float, float]:
    return remembered(n=n), remembered_at_run_time(n=n)


@workflow
def in_turn(n: int) -> float:
    return one_at_a_time(n=n)
