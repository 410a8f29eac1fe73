"""Compares our flyteidl with the published Python package: descriptors, and bytes of random messages.

Run with a Python that has flyteidl 1.16.8 installed:

    cargo build -p flyte-idl --example reencode
    python tests/python/idl_conformance.py target/debug/examples/reencode [--seed N] [--rounds N]

1. Every file, message, field, enum, service and rpc, with its http rule, is the same; only language options
   and source positions may differ (spec 08 B5).
2. Random instances of every message survive a round trip through our generated types byte for byte, in
   deterministic encoding: all scalar extremes, present but empty messages, maps, lists and oneofs.
"""

import argparse
import importlib
import math
import pkgutil
import random
import struct
import subprocess
import sys

import flyteidl
from google.api import annotations_pb2  # noqa: F401  registers the http extension
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import FieldDescriptor as Field

PUBLISHED_FILES = 63
# protoc-gen-openapiv2's option of methods and files: documentation only.
OPENAPI_EXTENSION = 1042
DEPTH = 4


def published_files():
    for module in pkgutil.walk_packages(flyteidl.__path__, "flyteidl."):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(module.name).DESCRIPTOR


class Reencoder:
    """Our types, in a process of their own."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *values):
        for value in values:
            self.process.stdin.write(struct.pack(">I", len(value)) + value)
        self.process.stdin.flush()
        head = self.process.stdout.read(4)
        if len(head) < 4:
            raise SystemExit(f"{values[0]!r}: our side ended with {self.process.wait()}")
        (length,) = struct.unpack(">I", head)
        return self.process.stdout.read(length)

    def descriptors(self):
        files = descriptor_pb2.FileDescriptorSet.FromString(self.ask(b"descriptors"))
        return {file.name: file for file in files.file}

    def reencoded(self, name, message):
        return self.ask(name.encode(), message)


def json_name(name):
    parts = name.split("_")
    return parts[0] + "".join(part[:1].upper() + part[1:] for part in parts[1:])


def without_openapi(options):
    """Options less the documentation extension, in canonical bytes."""
    kept = type(options)()
    kept.CopyFrom(options)
    for field, _ in options.ListFields():
        if field.is_extension and field.number == OPENAPI_EXTENSION:
            kept.ClearExtension(field)
    kept.DiscardUnknownFields()
    return kept.SerializeToString(deterministic=True)


def described_field(field):
    return {
        "name": field.name,
        "label": field.label,
        "type": field.type,
        "type_name": field.type_name,
        "oneof": field.oneof_index if field.HasField("oneof_index") else None,
        "default": field.default_value,
        "json_name": "" if field.json_name == json_name(field.name) else field.json_name,
        "options": without_openapi(field.options),
        "optional": field.proto3_optional,
    }


def described_enum(enum):
    return {
        "values": sorted((value.number, value.name, value.options.deprecated) for value in enum.value),
        "reserved": sorted((r.start, r.end) for r in enum.reserved_range),
        "names": sorted(enum.reserved_name),
        "options": without_openapi(enum.options),
    }


def described_message(message):
    return {
        "fields": {field.number: described_field(field) for field in message.field},
        "declared": [field.name for field in message.field],
        "messages": {inner.name: described_message(inner) for inner in message.nested_type},
        "enums": {enum.name: described_enum(enum) for enum in message.enum_type},
        "oneofs": [oneof.name for oneof in message.oneof_decl],
        "reserved": sorted((r.start, r.end) for r in message.reserved_range),
        "names": sorted(message.reserved_name),
        "options": without_openapi(message.options),
    }


def described_file(file):
    return {
        "package": file.package,
        "syntax": file.syntax or "proto2",
        "dependencies": sorted(name for name in file.dependency if "openapiv2" not in name),
        "messages": {message.name: described_message(message) for message in file.message_type},
        "enums": {enum.name: described_enum(enum) for enum in file.enum_type},
        "services": {
            service.name: {
                method.name: (
                    method.input_type,
                    method.output_type,
                    method.client_streaming,
                    method.server_streaming,
                    without_openapi(method.options),
                )
                for method in service.method
            }
            for service in file.service
        },
    }


def differences(path, ours, theirs):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(set(ours) | set(theirs), key=str):
            where = f"{path}.{key}"
            if key not in ours or key not in theirs:
                yield f"{where}: only {'theirs' if key not in ours else 'ours'}"
            else:
                yield from differences(where, ours[key], theirs[key])
    elif ours != theirs:
        yield f"{path}: ours {ours!r}, theirs {theirs!r}"


def compare_descriptors(reencoder, published):
    ours = {name: file for name, file in reencoder.descriptors().items() if name.startswith("flyteidl/")}
    theirs = {}
    for descriptor in published:
        proto = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(proto)
        theirs[descriptor.name] = proto
    assert len(theirs) == PUBLISHED_FILES, f"{len(theirs)} files published"
    return list(
        differences(
            "flyteidl",
            {name: described_file(file) for name, file in ours.items()},
            {name: described_file(file) for name, file in theirs.items()},
        )
    )


def messages_of(descriptor):
    for message in descriptor.message_types_by_name.values():
        yield from nested_messages(message)


def nested_messages(message):
    if message.GetOptions().map_entry:
        return
    yield message
    for inner in message.nested_types:
        yield from nested_messages(inner)


INTEGERS = {
    Field.TYPE_INT32: (-(2**31), 2**31 - 1),
    Field.TYPE_INT64: (-(2**63), 2**63 - 1),
    Field.TYPE_UINT32: (0, 2**32 - 1),
    Field.TYPE_UINT64: (0, 2**64 - 1),
}
FLOATS = [0.0, -0.0, 1.5, 1e300, 5e-324, math.inf, -math.inf, math.nan]
TEXTS = ["", "a", "ä😀", '"\\\n\x00', "x" * 300]


def random_scalar(random_source, field):
    if field.type in INTEGERS:
        low, high = INTEGERS[field.type]
        return random_source.choice([low, high, 0, 1, random_source.randint(low, high)])
    if field.type == Field.TYPE_DOUBLE:
        return random_source.choice([*FLOATS, random_source.random()])
    if field.type == Field.TYPE_FLOAT:
        return random_source.choice([0.0, -0.0, 0.5, math.inf, -math.inf, math.nan, 0.1])
    if field.type == Field.TYPE_BOOL:
        return random_source.random() < 0.5
    if field.type == Field.TYPE_STRING:
        return random_source.choice(TEXTS)
    if field.type == Field.TYPE_BYTES:
        return random_source.choice([b"", b"\x00\xff", random_source.randbytes(20)])
    if field.type == Field.TYPE_ENUM:
        known = [value.number for value in field.enum_type.values]
        return random_source.choice([*known, 77, -1])
    raise AssertionError(f"{field.full_name} is of no known type")


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def fill(random_source, message, depth):
    """Sets about half of the fields."""
    for field in message.DESCRIPTOR.fields:
        if random_source.random() < 0.5:
            continue
        if is_map(field):
            fill_map(random_source, getattr(message, field.name), field, depth)
        elif field.is_repeated:
            items = getattr(message, field.name)
            for _ in range(random_source.randint(1, 3)):
                if field.message_type:
                    inner = items.add()
                    if depth:
                        fill(random_source, inner, depth - 1)
                else:
                    items.append(random_scalar(random_source, field))
        elif field.message_type:
            inner = getattr(message, field.name)
            inner.SetInParent()
            if depth:
                fill(random_source, inner, depth - 1)
        else:
            setattr(message, field.name, random_scalar(random_source, field))


def fill_map(random_source, entries, field, depth):
    key_field = field.message_type.fields_by_name["key"]
    value_field = field.message_type.fields_by_name["value"]
    for _ in range(random_source.randint(1, 3)):
        key = random_scalar(random_source, key_field)
        if value_field.message_type:
            inner = entries[key]
            if depth:
                fill(random_source, inner, depth - 1)
        else:
            entries[key] = random_scalar(random_source, value_field)


def compare_bytes(reencoder, published, seed, rounds):
    count = 0
    for descriptor in published:
        for message_type in messages_of(descriptor):
            count += 1
            for round_number in range(rounds):
                source = random.Random(f"{seed}/{message_type.full_name}/{round_number}")
                message = message_factory.GetMessageClass(message_type)()
                fill(source, message, DEPTH)
                sent = message.SerializeToString(deterministic=True)
                answer = type(message).FromString(reencoder.reencoded(message_type.full_name, sent))
                if answer.SerializeToString(deterministic=True) != sent:
                    yield f"{message_type.full_name}: round {round_number} of seed {seed} came back changed"
    print(f"{count} messages, {rounds} instances each")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("reencode", help="the example program of crates/idl")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    published = list(published_files())
    reencoder = Reencoder(arguments.reencode)
    wrong = compare_descriptors(reencoder, published)
    wrong += compare_bytes(reencoder, published, arguments.seed, arguments.rounds)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        raise SystemExit(f"{len(wrong)} differences")
    print("flyteidl is what was published")


if __name__ == "__main__":
    main()
