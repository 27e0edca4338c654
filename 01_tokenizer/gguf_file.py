"""The head of a GGUF file, the format of llama.cpp: key-value pairs that describe a model.

Layout, all little-endian: "GGUF", uint32 version, uint64 tensors, uint64 pairs; then for each pair its
key, a uint32 type and the value. A string is a uint64 length and UTF-8; an array a uint32 type, a uint64
length and its values. (github.com/ggml-org/ggml, docs/gguf.md)
"""

import os
import struct

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def read_metadata(path):
    """{key: number, string or list} of a GGUF file. Raises ValueError if it is none, or damaged."""
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size

        def numbers(code, count=1):
            size = struct.calcsize(f"<{code}") * count
            if size > length - file.tell():  # before it is asked for: a damaged length may be any number
                raise ValueError("the file ends too early")
            return struct.unpack(f"<{count}{code}", file.read(size))

        def value(kind):
            if kind == STRING:
                return bytes(numbers("B", numbers("Q")[0])).decode("utf-8")
            if kind == ARRAY:
                kind, count = numbers("I")[0], numbers("Q")[0]
                return list(numbers(NUMBERS[kind], count)) if kind in NUMBERS else [value(kind) for _ in range(count)]
            return numbers(NUMBERS[kind])[0]

        if file.read(4) != b"GGUF":
            raise ValueError("the file does not begin with GGUF")
        version, _, pairs = numbers("I")[0], numbers("Q")[0], numbers("Q")[0]
        if version < 2:
            raise ValueError(f"GGUF version {version} is too old")
        try:
            return {value(STRING): value(numbers("I")[0]) for _ in range(pairs)}
        except KeyError as error:
            raise ValueError(f"there is no GGUF type {error}") from error
