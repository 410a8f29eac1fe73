"""Values that programs trip over."""

import copy
import json
from urllib.parse import quote

# Lengths on both sides of the limits of columns, labels, names of files and messages.
LENGTHS = (1, 63, 64, 100, 101, 253, 255, 256, 300, 1024, 4096)
HUGE = (70_000, 300_000, 1_100_000)
TEXTS = (
    "", " ", ".", "..", "../..", "/", "//", "/..", "a/../../b", "a//b", "%", "%2F", "%2e%2e", "%00", "%zz", "#", "?", "&",
    "=", "+", ";", ",", "*", "\\", "'", '"', "'; DROP TABLE tasks;--", "\0", "a\0b", "\n", "\r\n", "\t", "\x7f", "\x1b[31m",
    "ü", "e\u0301", "😀", "\u202e", "\ufeff", "\ufffe", "\U0010ffff", "İ", "ß", "-", "-1", "0", "00", "1e9", "NaN", "null",
    "true", "[]", "{}", "{{.inputs.x}}", "${x}", "$(x)", "`x`", "<x>", "CON", "start-node", "end-node", "n0", "default",
    "A", "a", "a-", "-a", "a_b", "a.b", "a:b", "a b", "s3://my-s3-bucket/x", "s3://", "file:///etc/passwd",
    "http://localhost/",
)
INTEGERS = (
    0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 65536, 10_000, 10_001, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32,
    2**53, 2**63 - 1, -(2**63), 2**64 - 1,
)
FLOATS = (0.0, -0.0, 1.5, -1.5, 1e-308, 5e-324, 1e308, float("inf"), float("-inf"), float("nan"), 2.0**53)
# Years 1 and 9999 are the ends of google.protobuf.Timestamp.
SECONDS = (0, 1, -1, -62_135_596_800, -62_135_596_801, 253_402_300_799, 253_402_300_800, 2**31, 2**63 - 1, -(2**63),
    4_000_000_000)
NANOS = (0, 1, -1, 999_999_999, 1_000_000_000, 2**31 - 1, -(2**31))
# Numbers that no Python value writes.
LITERAL_NUMBERS = (
    "1e400", "-1e400", "1E-400", "0.1e1", "1" * 400, "-0", "1.0", "9223372036854775808", "-9223372036854775809",
    "18446744073709551616",
)


def text(rng):
    """A text: one of the list, one of a length, or a mixture."""
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(TEXTS)
    if kind < 0.8:
        return rng.choice("aü😀 ./%\0") * rng.choice(LENGTHS)
    if kind < 0.83:
        return "x" * rng.choice(HUGE)
    return "".join(rng.choice(TEXTS) for _ in range(rng.randrange(2, 6)))


def scalar(rng):
    """A JSON value without parts."""
    return rng.choice(
        (None, True, False, rng.choice(INTEGERS), rng.choice(FLOATS[:7]), text(rng), Literal(rng.choice(LITERAL_NUMBERS)))
    )


class Literal(float):
    """A number that is written as its text says."""

    def __new__(cls, written):
        made = super().__new__(cls, 0)
        made.written = written
        return made

    def __repr__(self):
        return self.written


class Nested:
    """`depth` levels around a value: lists, or objects under a key."""

    def __init__(self, depth, key=None):
        self.depth, self.key = depth, key

    def written(self):
        opened, closed = ("[", "]") if self.key is None else ("{%s:" % json.dumps(self.key), "}")
        return opened * self.depth + "1" + closed * self.depth


class Twice:
    """An object that has a key two times."""

    def __init__(self, key, values):
        self.key, self.values = key, values


def write(value):
    """JSON, also of what `json.dumps` does not write; surrogates stay escapes."""
    if isinstance(value, Nested):
        return value.written()
    if isinstance(value, Twice):
        return "{" + ",".join(f"{json.dumps(value.key)}:{write(each)}" for each in value.values) + "}"
    if isinstance(value, Literal):
        return value.written
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{write(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(write, value)) + "]"
    return json.dumps(value)


def _places(value, found):
    """Every place in a tree, as its container and the key in it."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        found.append((value, key))
        _places(part, found)
    return found


def mutate_json(rng, tree, keys=()):
    """Changes one place of a tree of lists and dicts, in place; answers the new tree. `keys` are names of fields that the
    reader knows."""
    places = _places(tree, [])
    if not places or rng.random() < 0.02:
        return rng.choice((scalar(rng), [], {}, [tree], Nested(rng.choice((50, 999, 1000, 20_000)))))
    container, key = rng.choice(places)
    old = container[key]
    kind = rng.randrange(12)
    if kind == 0 and isinstance(container, dict):
        del container[key]
    elif kind == 1:
        container[key] = scalar(rng)
    elif kind == 2:
        container[key] = text(rng)
    elif kind == 3:
        container[key] = rng.choice(({}, [], [old], {"a": old}, [[]], [None], {"": None}))
    elif kind == 4:
        container[key] = Nested(rng.choice((20, 130, 999, 1001, 30_000)), rng.choice((None, str(key), "a")))
    elif kind == 5 and isinstance(container, dict):
        container[rng.choice(keys) if keys and rng.random() < 0.7 else text(rng)] = rng.choice((scalar(rng), old))
    elif kind == 6 and isinstance(container, dict):
        container[key] = Twice(str(key), [old, scalar(rng)])
    elif kind == 7 and isinstance(old, list):
        container[key] = old * rng.choice((2, 50, 1000)) if old else [scalar(rng)] * rng.choice((2, 1000))
    elif kind == 8 and isinstance(old, dict):
        container[key] = {**old, **{f"k{index}": scalar(rng) for index in range(rng.choice((1, 30, 1000)))}}
    elif kind == 9:
        other_container, other_key = rng.choice(places)
        container[key] = copy.deepcopy(other_container[other_key])
    elif kind == 10 and isinstance(old, str):
        container[key] = rng.choice((old + text(rng), old.upper(), old[: len(old) // 2], old * 2, old.encode().hex()))
    else:
        container[key] = scalar(rng)
    return tree


def mutate_bytes(rng, data):
    """Changes some bytes, wherever they are."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.choice((1, 3, 20))]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 50)))
        elif kind == 3 and data:
            data[at % len(data)] = rng.choice((0, 0x7F, 0x80, 0xFF))
        elif kind == 4:
            begin = rng.randrange(len(data) + 1)
            data[at:at] = data[begin : begin + rng.choice((1, 10, 300))]
        else:
            del data[at:]
    return bytes(data)


def target(rng, segments, raw=0.1):
    """A path of these segments; percent-encoded mostly, sometimes as they are."""
    written = []
    for segment in segments:
        if rng.random() < raw:
            written.append(segment.encode("utf-8", "replace").decode("latin-1").replace(" ", "%20").replace("\r",
                "").replace("\n", ""))
        else:
            written.append(quote(segment, safe=rng.choice(("", "", "/:", "."))))
    return "/" + "/".join(written)
