"""Raw containers: their data are files, which flyte-copilot brings and takes away. They have no Python."""

from flytekit import ContainerTask, kwtypes, task, workflow
from flytekit.types.directory import FlyteDirectory
from flytekit.types.file import FlyteFile

from flows import SMALL


def container(name, script, inputs, outputs, format=ContainerTask.MetadataFormat.JSON, **more):
    """A task that runs a shell script beside /var/in and /var/out."""
    return ContainerTask(
        name=name,
        image="debian:stable-slim",
        metadata_format=format,
        input_data_dir="/var/in",
        output_data_dir="/var/out",
        inputs=inputs,
        outputs=outputs,
        command=["sh", "-ec", script],
        requests=SMALL,
        **more,
    )


rectangle = container(
    "rectangle",
    "a=$(cat /var/in/width); b=$(cat /var/in/height); echo $((a * b)) > /var/out/area; "
    'echo "$(cat /var/in/unit)2" > /var/out/unit; echo true > /var/out/large; echo 1.5 > /var/out/ratio',
    kwtypes(width=int, height=int, unit=str),
    kwtypes(area=int, unit=str, large=bool, ratio=float),
)

count = container(
    "count",
    "wc -c < /var/in/file > /var/out/bytes; tr a-z A-Z < /var/in/file > /var/out/upper.txt; "
    "mkdir -p /var/out/parts/deep; split -b 4 /var/in/file /var/out/parts/deep/part-",
    kwtypes(file=FlyteFile),
    kwtypes(bytes=int, upper=FlyteFile, parts=FlyteDirectory),
)

documents = {
    format: container(
        f"document_{format.name.lower()}",
        f"cp /var/in/inputs.{format.name.lower()} /var/out/document",
        kwtypes(n=int, words=list[str]),
        kwtypes(document=FlyteFile),
        format=format,
    )
    for format in (ContainerTask.MetadataFormat.JSON, ContainerTask.MetadataFormat.YAML)
}
document_json = documents[ContainerTask.MetadataFormat.JSON]
document_yaml = documents[ContainerTask.MetadataFormat.YAML]

forgets = container("forgets", "echo 1 > /var/out/one", {}, kwtypes(one=int, other=int))

complains = container("complains", "echo the data are bad > /var/out/_ERROR", {}, kwtypes(one=int))


@task(requests=SMALL)
def note() -> FlyteFile:
    with open("note.txt", "w") as file:
        file.write("hello world")
    return FlyteFile("note.txt")


@task(requests=SMALL)
def listing(upper: FlyteFile, parts: FlyteDirectory) -> str:
    from pathlib import Path

    folder = Path(parts.download())
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return f"{Path(upper.download()).read_text()} in {' '.join(names)}"


@workflow
def areas(width: int = 6, height: int = 7, unit: str = "m") -> (int, str, bool, float):
    area, unit_of_area, large, ratio = rectangle(width=width, height=height, unit=unit)
    return area, unit_of_area, large, ratio


@workflow
def files() -> (int, str):
    bytes, upper, parts = count(file=note())
    return bytes, listing(upper=upper, parts=parts)


@workflow
def written() -> (FlyteFile, FlyteFile):
    return document_json(n=3, words=["yes", "1:30", ""]), document_yaml(n=3, words=["yes", "1:30", ""])


@workflow
def forgetting() -> (int, int):
    one, other = forgets()
    return one, other


@workflow
def complaining() -> int:
    return complains()
