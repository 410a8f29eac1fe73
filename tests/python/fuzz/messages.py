"""Protobuf messages from their descriptors: plausible ones, and mutated ones.

Names of fields say what a plausible value is; `Names` has those that earlier requests made.
"""

import random

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor as Field

from . import values

INTEGERS = (
    Field.CPPTYPE_INT32, Field.CPPTYPE_INT64, Field.CPPTYPE_UINT32, Field.CPPTYPE_UINT64,
)
RANGES = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1), Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1), Field.CPPTYPE_UINT64: (0, 2**64 - 1),
}
# What lists can be filtered and sorted by, and what they cannot.
COLUMNS = (
    "name", "project", "domain", "version", "phase", "state", "created_at", "updated_at", "execution_created_at", "node_id",
    "execution_name", "started_at", "duration", "task.name", "workflow.name", "launch_plan.name", "execution.phase",
    "admin_tag.name",
    "execution_tag.value", "user", "mode", "id", "retry_attempt", "identifier", "node_executions.phase", "parent_id", "digest",
    "nothing",
    "schedule_type", "cluster", "error_kind", "error_code", "execution_labels",
)
FUNCTIONS = ("eq", "ne", "gt", "gte", "lt", "lte", "contains", "value_in", "in", "EQ", "none")


class Names:
    """What earlier requests made, by kind; the newest are used most."""

    MOST = 400

    def __init__(self, rng, project, domain):
        self.rng, self.project, self.domain, self.made = rng, project, domain, {}

    def add(self, kind, name):
        known = self.made.setdefault(kind, [])
        known.append(name)
        if len(known) > self.MOST:
            del known[self.rng.randrange(len(known) // 2)]

    def any(self, kind, default=None):
        known = self.made.get(kind)
        if not known:
            return default
        return known[max(self.rng.randrange(len(known)), self.rng.randrange(len(known)))]


def message_class(descriptor):
    return message_factory.GetMessageClass(descriptor)


def filters(rng):
    """What a `filters` says, mostly well-formed."""
    parts = []
    for _ in range(rng.choice((1, 1, 2, 4, 101))):
        value = rng.choice(("fuzz", "SUCCEEDED", "RUNNING", "1", "v1", "2024-01-01T00:00:00Z", "a;b;c",
            values.text(rng)[:2000]))
        parts.append(f"{rng.choice(FUNCTIONS)}({rng.choice(COLUMNS)},{value})")
    written = "+".join(parts)
    return written if rng.random() < 0.9 else values.mutate_bytes(rng, written.encode()).decode("utf-8", "replace")


def plausible_text(rng, name, names):
    """A text that a field of this name may hold."""
    if name in ("project", "project_id"):
        return names.project
    if name in ("domain", "domain_id"):
        return names.domain
    if name == "org":
        return ""
    if name == "filters":
        return rng.choice(("", "", filters(rng)))
    if name == "token":
        return rng.choice(("", "", "1", "10", "100000", values.text(rng)[:300]))
    if name == "key":
        return rng.choice(("created_at", *COLUMNS))
    if name == "version":
        return names.any("version", "v1")
    if name in ("node_id", "signal_id", "retry_group", "spec_node_id"):
        return rng.choice(("n0", "n0", "n1", "start-node", "end-node"))
    if "uri" in name or "url" in name or name in ("uri", "location_prefix"):
        return names.any("uri", "s3://my-s3-bucket/fuzz/x")
    if name in ("name", "execution_name", "workflow", "task", "launch_plan"):
        return names.any("name", "fuzz")
    return rng.choice(("fuzz", "a", "1", "", "x.y"))


class Maker:
    """Makes and mutates messages."""

    def __init__(self, rng, names):
        self.rng, self.names = rng, names

    def make(self, descriptor, depth=0):
        """A plausible message; the deeper, the less is set."""
        message = message_class(descriptor)()
        self.fill(message, depth)
        return message

    def fill(self, message, depth=0):
        if self.well_known(message):
            return
        chosen = {}
        for oneof in message.DESCRIPTOR.oneofs:
            chosen[oneof.name] = self.rng.choice(oneof.fields)
        for field in message.DESCRIPTOR.fields:
            oneof = field.containing_oneof
            if oneof and (chosen[oneof.name] is not field):
                continue
            identifies = field.name in ("id", "project", "domain", "name", "version") or field.name.endswith("_id")
            probability = 1.0 if identifies and depth < 4 else (0.8, 0.6, 0.4, 0.3, 0.15)[depth] if depth < 5 else 0.03
            if depth < 14 and self.rng.random() < probability:
                self.set(message, field, depth)

    def well_known(self, message):
        name = message.DESCRIPTOR.full_name
        if name == "google.protobuf.Timestamp":
            message.seconds = self.rng.choice((1_700_000_000, 1_800_000_000))
        elif name == "google.protobuf.Duration":
            message.seconds = self.rng.choice((1, 60, 3600))
        elif name == "google.protobuf.Struct":
            message.update({"a": self.rng.choice((1, "x", None, True, [1, {"b": 2}]))})
        else:
            return False
        return True

    def set(self, message, field, depth=0):
        """Sets a field to something plausible."""
        if field.is_repeated:
            entry = field.message_type
            for _ in range(self.rng.choice((1, 1, 2))):
                if entry is not None and entry.GetOptions().map_entry:
                    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
                    chosen = self.scalar(key)
                    if value.message_type is not None:
                        self.fill(getattr(message, field.name)[chosen], depth + 1)
                    else:
                        getattr(message, field.name)[chosen] = self.scalar(value)
                elif entry is not None:
                    self.fill(getattr(message, field.name).add(), depth + 1)
                else:
                    getattr(message, field.name).append(self.scalar(field))
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            self.fill(part, depth + 1)
        else:
            setattr(message, field.name, self.scalar(field))

    def scalar(self, field):
        rng, kind = self.rng, field.cpp_type
        if kind == Field.CPPTYPE_STRING:
            if field.type == Field.TYPE_BYTES:
                return rng.choice((b"", b"x", rng.randbytes(20)))
            return plausible_text(rng, field.name, self.names)
        if kind == Field.CPPTYPE_ENUM:
            return rng.choice(field.enum_type.values).number
        if kind == Field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if kind in (Field.CPPTYPE_FLOAT, Field.CPPTYPE_DOUBLE):
            return rng.choice((0.0, 1.5, 100.0))
        return rng.choice((0, 1, 2, 10, 100))

    def wild(self, field):
        """A scalar that a program may trip over."""
        rng, kind = self.rng, field.cpp_type
        if kind == Field.CPPTYPE_STRING:
            text = values.text(rng)
            return text.encode("utf-8", "replace") if field.type == Field.TYPE_BYTES else text
        if kind == Field.CPPTYPE_ENUM:
            return rng.choice((0, -1, 99, 2**31 - 1, -(2**31), rng.choice(field.enum_type.values).number))
        if kind == Field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if kind in (Field.CPPTYPE_FLOAT, Field.CPPTYPE_DOUBLE):
            return rng.choice(values.FLOATS)
        low, high = RANGES[kind]
        of = values.SECONDS if field.name == "seconds" else values.NANOS if field.name == "nanos" else values.INTEGERS
        return min(max(rng.choice(of), low), high)

    def parts(self, message):
        """All messages in a message, itself first."""
        found, at = [message], 0
        while at < len(found):
            for field, value in found[at].ListFields():
                if field.message_type is None:
                    continue
                if field.message_type.GetOptions().map_entry:
                    if field.message_type.fields_by_name["value"].message_type is not None:
                        found.extend(value.values())
                else:
                    found.extend(value if field.is_repeated else [value])
            at += 1
        return found

    def mutate(self, message):
        """Changes one thing in a message, in place."""
        rng = self.rng
        part = rng.choice(self.parts(message))
        if not part.DESCRIPTOR.fields:
            return
        field, kind = rng.choice(part.DESCRIPTOR.fields), rng.random()
        if kind < 0.15:
            present = [field for field, _ in part.ListFields()]
            part.ClearField((rng.choice(present) if present else field).name)
        elif kind < 0.3:
            self.set(part, field, rng.choice((0, 3)))
        elif field.is_repeated:
            self.lengthen(part, field)
        elif field.message_type is not None:
            getattr(part, field.name).SetInParent()
            if kind < 0.6:
                self.fill(getattr(part, field.name), 3)
        else:
            setattr(part, field.name, self.wild(field))

    def lengthen(self, part, field):
        rng, of = self.rng, getattr(part, field.name)
        entry = field.message_type
        # An empty message of two bytes may take a thousand of memory.
        count = rng.choice((1, 2, 30, 1000, 3000, 300_000 if rng.random() < 0.1 else 20_000))
        if entry is not None and entry.GetOptions().map_entry:
            key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
            for index in range(count):
                chosen = f"k{index}" if key.cpp_type == Field.CPPTYPE_STRING else index
                chosen = self.wild(key) if count == 1 else chosen
                if value.message_type is not None:
                    of[chosen].SetInParent()
                else:
                    of[chosen] = self.scalar(value)
        elif entry is not None:
            for _ in range(count):
                added = of.add()
                if count <= 2:
                    self.fill(added, 3)
                elif len(of) > 1 and count <= 1000 and of[0].ByteSize() < 2000:
                    added.CopyFrom(of[0])
        else:
            of.extend([self.wild(field) if count < 3 else self.scalar(field)] * count)

    def encode(self, message):
        """The message as bytes; sometimes with what no message holds."""
        data, kind = message.SerializeToString(), self.rng.random()
        if kind < 0.75:
            return data
        if kind < 0.83:
            return values.mutate_bytes(self.rng, data)
        if kind < 0.9:
            return data + unknown(self.rng)
        return data + deep(self.rng, message.DESCRIPTOR)


def varint(number):
    written = bytearray()
    while True:
        written.append((number & 0x7F) | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(written)


def unknown(rng):
    """Fields that no descriptor has, or not of this type."""
    written = b""
    for _ in range(rng.choice((1, 3, 2000))):
        number, wire = rng.choice((1, 2, 3, 15, 100, 9999, 2**29 - 1)), rng.choice((0, 1, 2, 3, 4, 5))
        tag = varint(number << 3 | wire)
        written += tag + {
            0: varint(rng.choice((0, 1, 2**32, 2**64 - 1))), 1: bytes(8), 2: varint(3) + b"abc", 3: varint(number << 3 | 4),
            4: b"", 5: bytes(4),
        }[wire]
    return written


def deep(rng, descriptor):
    """A field of this message that nests in itself many times; nothing if none can."""
    cycle = rng.choice(_cycles(descriptor) or [None])
    if cycle is None:
        return b""
    way, loop = cycle
    # Encoding costs each message in it once for each message around it: 9 KB of three thousand messages in each other take
    # up to two seconds in a debug build, and 350 KB of such more than a call may. Until that is bounded by size they nest a
    # little, or more than is taken.
    times = max(1, rng.choice((20, 100, 400, 6000)) // len(loop))
    size, headers = 0, []
    for number in reversed([*way, *(loop * times)]):
        header = varint(number << 3 | 2) + varint(size)
        size += len(header)
        headers.append(header)
    return b"".join(reversed(headers))


_KNOWN = {}


def _cycles(descriptor):
    """Ways to a message that can hold itself, and how: numbers of fields."""
    if descriptor.full_name not in _KNOWN:
        ways = {descriptor.full_name: ([], descriptor)}
        queue = [descriptor]
        for each in queue:
            for field in each.fields:
                inner = field.message_type
                if inner is not None and inner.full_name not in ways:
                    ways[inner.full_name] = ([*ways[each.full_name][0], field.number], inner)
                    queue.append(inner)
        found = [(way, loop) for way, inner in ways.values() if (loop := _loop(inner))]
        _KNOWN[descriptor.full_name] = found
    return _KNOWN[descriptor.full_name]


def _loop(descriptor):
    """The shortest way from a message to itself."""
    known, queue = set(), [(descriptor, [])]
    for each, way in queue:
        for field in each.fields:
            inner = field.message_type
            if inner is None:
                continue
            if inner.full_name == descriptor.full_name:
                return [*way, field.number]
            if inner.full_name not in known:
                known.add(inner.full_name)
                queue.append((inner, [*way, field.number]))
    return None


def seeded(*parts):
    """Randomness for a seed and what it is for."""
    return random.Random("/".join(map(str, parts)))
