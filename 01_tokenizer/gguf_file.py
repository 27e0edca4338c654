"""The head of a GGUF file, the format of llama.cpp: key-value pairs that describe a model, and where its tensors are.

Layout, all little-endian: "GGUF", uint32 version, uint64 tensors, uint64 pairs; then for each pair its
key, a uint32 type and the value. A string is a uint64 length and UTF-8; an array a uint32 type, a uint64
length and its values. Then for each tensor its name, a uint32 number of dimensions, these as uint64, the
innermost first, a uint32 type and a uint64 offset into the data, which begins at the next multiple of the
alignment. (github.com/ggml-org/ggml, docs/gguf.md)
"""

import os
import struct

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def read_metadata(path):
    """{key: number, string or list} of a GGUF file. Raises ValueError if it is none, or damaged."""
    return read_head(path)[0]


def read_head(path):
    """The pairs, and {name of a tensor: (type, shape, first byte)}. Raises ValueError likewise."""
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size

        def numbers(code, count=1):
            size = struct.calcsize(f"<{code}") * count
            if size > length - file.tell():  # before it is asked for: a damaged length may be any number
                raise ValueError("the file ends too early")
            return struct.unpack(f"<{count}{code}", file.read(size))

        def text():
            return bytes(numbers("B", numbers("Q")[0])).decode("utf-8")

        def value(kind):
            if kind == STRING:
                return text()
            if kind == ARRAY:
                kind, count = numbers("I")[0], numbers("Q")[0]
                return list(numbers(NUMBERS[kind], count)) if kind in NUMBERS else [value(kind) for _ in range(count)]
            return numbers(NUMBERS[kind])[0]

        if file.read(4) != b"GGUF":
            raise ValueError("the file does not begin with GGUF")
        version, tensor_count, pair_count = numbers("I")[0], numbers("Q")[0], numbers("Q")[0]
        if version < 2:
            raise ValueError(f"GGUF version {version} is too old")
        try:
            pairs = {text(): value(numbers("I")[0]) for _ in range(pair_count)}
        except KeyError as error:
            raise ValueError(f"there is no GGUF type {error}") from error
        tensors = {}
        for _ in range(tensor_count):
            name, shape = text(), numbers("Q", numbers("I")[0])[::-1]
            tensors[name] = numbers("I")[0], shape, numbers("Q")[0]
        alignment = pairs.get("general.alignment", 32)
        if alignment < 1:
            raise ValueError(f"tensors can't stand at multiples of {alignment}")
        start = -(-file.tell() // alignment) * alignment
        return pairs, {name: (kind, shape, start + offset) for name, (kind, shape, offset) in tensors.items()}
