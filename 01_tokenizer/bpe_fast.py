"""The byte-pair encoding that the course uses: the merges of bpe_plain.py, as fast as a Rust trainer.

A word is a str with one character per token id, so that Python's own `split` finds and `join` merges
a pair at the speed of C, and a pair is a str of two such characters, of which the smallest is the
one with the smallest (left id, right id).
"""

import heapq
from collections import Counter

import numpy as np


def first_counts(words, occurrences):
    """Count the pairs of words that are still bytes: ({pair: count}, {pair: [indices of words]}).

    All words stand in one array, with the boundaries between them left out.
    """
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    text = np.frombuffer(b"".join(words), np.uint8).astype(np.uint16)
    owner = np.repeat(np.arange(len(words), dtype=np.int32), lengths)
    inside = owner[1:] == owner[:-1]
    codes = (text[:-1] * 256 + text[1:])[inside]  # a pair of bytes as one number
    owner = owner[1:][inside]
    totals = np.bincount(codes, weights=np.asarray(occurrences, np.float64)[owner], minlength=1 << 16)
    order = np.argsort(codes, kind="stable")
    pairs, starts = np.unique(codes[order], return_index=True)
    names = [chr(code >> 8) + chr(code & 255) for code in pairs.tolist()]
    counts = dict(zip(names, map(int, totals[pairs].tolist())))
    return counts, dict(zip(names, map(np.ndarray.tolist, np.split(owner[order], starts[1:]))))


def train_fast(word_counts, merge_count):
    """Learn merges from {word as bytes: occurrences}, as `bpe_plain.train_naive` does."""
    if not any(len(word) > 1 for word in word_counts):
        return {}
    occurrences = list(word_counts.values())
    counts, words_with = first_counts(list(word_counts), occurrences)
    words = [word.decode("latin-1") for word in word_counts]  # byte n becomes the character n
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges = {}

    def put(pair, count, indices):
        counts[pair] = count
        words_with[pair] = indices
        heapq.heappush(heap, (-count, pair))

    while heap and len(merges) < merge_count:
        count, pair = heapq.heappop(heap)
        if -count != counts[pair]:  # the entry is stale: put it back with its true count
            if counts[pair] > 0:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        left, right = pair
        new = chr(256 + len(merges))
        merges[ord(left), ord(right)] = ord(new)

        # the neighbours of the merged pairs: character -> [occurrences, indices of the words]
        before, after, doubled = {}, {}, [0, []]
        for index in words_with.pop(pair):
            head, found, tail = words[index].partition(pair)
            times = occurrences[index]
            if not found:  # the word lost this pair to an earlier merge
                continue
            if pair not in tail:  # nearly always: once in the word
                words[index] = head + new + tail
                if head:
                    add(before, head[-1], times, index)
                if tail:
                    add(after, tail[0], times, index)
                continue
            parts = words[index].split(pair)
            words[index] = new.join(parts)
            if touching := parts[1:-1].count(""):  # two merged pairs side by side
                doubled[0] += touching * times
                doubled[1].append(index)
            for character, number in Counter(part[-1] for part in parts[:-1] if part).items():
                add(before, character, number * times, index)
            for character, number in Counter(part[0] for part in parts[1:] if part).items():
                add(after, character, number * times, index)

        for character, (number, indices) in before.items():
            counts[character + left] -= number
            put(character + new, number, indices)
        for character, (number, indices) in after.items():
            counts[right + character] -= number
            put(new + character, number, indices)
        if doubled[0]:
            counts[right + left] -= doubled[0]
            put(new + new, *doubled)
        counts[pair] = 0
    return merges


def add(neighbours, character, times, index):
    if character in neighbours:
        entry = neighbours[character]
        entry[0] += times
        entry[1].append(index)
    else:
        neighbours[character] = [times, [index]]
