"""The byte-pair encoding that the course uses: the merges of bpe_plain.py, as fast as a Rust trainer.

Four ideas: the first merges, which have the most places, are made in an array (token_array.py); later
a word is a str with one character per token id, so that Python's own `partition` and `+` merge a pair
at the speed of C; a pair is one number, and so is its entry in the heap; and the heap holds only the
common pairs, until no one of them is left.
"""

import gc
import heapq
from collections import Counter
from itertools import chain

import numpy as np
from token_array import BOUNDARY, RIGHT, SHIFT, TokenArray

MERGES_IN_ARRAY = 600  # later ones have few places each, and strings are faster
LONG = 1000  # bytes; longer words stay in an array, since a str is copied whole for each merge
BETWEEN = chr(0x10FFFF)  # no token, of which there are at most a million: it stands between words
ENTRY = 2 * SHIFT  # a heap entry is one number, pair - (count << ENTRY): of the commonest, the smallest pair is first


class TokenStrings:
    """Words as strings with one character per token id, and for each pair the words that contain it."""

    def __init__(self, array):
        """Take over the words of a TokenArray as they are after its merges."""
        self.occurrences = array.occurrences.tolist()
        ids = array.ids[array.ids >= BOUNDARY]
        ids[ids == BOUNDARY] = ord(BETWEEN)
        text = ids.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")  # ids, not code points: any will do
        self.words = text.split(BETWEEN)[1:-1]
        sizes = [sum(map(len, where)) for where in array.places.values()]
        pairs = np.repeat(np.fromiter(array.places, np.int64), sizes)
        places = np.concatenate([np.empty(0, np.int32), *chain.from_iterable(array.places.values())])
        array.places.clear()  # in memory once is enough
        alive = (array.ids[places] == pairs >> SHIFT) & (array.ids[array.next[places]] == pairs & RIGHT)
        each_once = np.arange(len(self.words)).astype(object)  # one Python number per word, for all lists it is in
        pairs, words = pairs[alive], each_once[array.word[places[alive]]].tolist()
        starts = np.flatnonzero(np.diff(pairs, prepend=-1)).tolist()
        self.places = {
            pair: words[start:end] for pair, start, end in zip(pairs[starts].tolist(), starts, [*starts[1:], None])
        }

    def merge(self, pair, new_id):
        """Merge a pair in all words; returns [(pair lost, pair born, occurrences)], as TokenArray does."""
        left_id, right_id, new = pair >> SHIFT, pair & RIGHT, chr(new_id)
        text = chr(left_id) + chr(right_id)
        words, occurrences = self.words, self.occurrences
        # the neighbours of the merged pairs: character -> [occurrences, indices of the words]
        before, after, doubled = {}, {}, [0, []]
        for index in self.places.pop(pair, ()):
            head, found, tail = words[index].partition(text)
            if not found:  # the word lost this pair to an earlier merge
                continue
            times = occurrences[index]
            if text not in tail:  # nearly always: once in the word
                words[index] = head + new + tail
                if head:
                    add(before, head[-1], times, index)
                if tail:
                    add(after, tail[0], times, index)
                continue
            parts = words[index].split(text)
            words[index] = new.join(parts)
            if touching := parts[1:-1].count(""):  # two merged pairs side by side
                doubled[0] += touching * times
                doubled[1].append(index)
            for character, number in Counter(part[-1] for part in parts[:-1] if part).items():
                add(before, character, number * times, index)
            for character, number in Counter(part[0] for part in parts[1:] if part).items():
                add(after, character, number * times, index)

        changes = []
        for character, (count, indices) in before.items():
            born = ord(character) << SHIFT | new_id
            self.places[born] = indices
            changes.append((ord(character) << SHIFT | left_id, born, count))
        for character, (count, indices) in after.items():
            born = new_id << SHIFT | ord(character)
            self.places[born] = indices
            changes.append((right_id << SHIFT | ord(character), born, count))
        if doubled[0]:
            born = new_id << SHIFT | new_id
            self.places[born] = doubled[1]
            changes.append((right_id << SHIFT | left_id, born, doubled[0]))
        return changes


def add(neighbours, character, times, index):
    if character in neighbours:
        entry = neighbours[character]
        entry[0] += times
        entry[1].append(index)
    else:
        neighbours[character] = [times, [index]]


def train_fast(word_counts, merge_count, min_count=1, report=None):
    """Learn merges from {word as bytes: occurrences}, as `bpe_plain.train_naive` does.

    `report(left id, right id, new id, count)`, if given, is called at each merge.
    """
    collecting = gc.isenabled()
    gc.disable()  # the many small lists make no cycles, and looking for some takes a tenth of the time
    try:
        return learn_merges(word_counts, merge_count, min_count, report)
    finally:
        if collecting:
            gc.enable()


def learn_merges(word_counts, merge_count, min_count, report):
    short, long = [], []
    for word in word_counts:
        (short if len(word) <= LONG else long).append(word)
    arrays = [TokenArray(words, [word_counts[word] for word in words]) for words in (short, long) if words]
    counts = dict(sum((Counter(array.counts) for array in arrays), Counter()))
    holders: list[TokenArray | TokenStrings] = [*arrays]
    # The heap holds the pairs that occur `floor` times or more; when it is empty, floor falls to an eighth.
    merges, heap, floor = {}, [], max(counts.values(), default=0) + 1
    while len(merges) < merge_count:
        if not heap:  # begin again with rarer pairs
            if floor <= min_count:
                break
            floor = max(floor // 8, min_count)
            heap = [pair - (count << ENTRY) for pair, count in counts.items() if count >= floor]
            heapq.heapify(heap)
            continue
        entry = heapq.heappop(heap)
        pair = entry & ((1 << ENTRY) - 1)
        count = counts.get(pair, 0)
        if count != -(entry >> ENTRY):  # the entry is stale: put it back with its true count
            if count >= floor:
                heapq.heappush(heap, pair - (count << ENTRY))
            continue
        if len(merges) == MERGES_IN_ARRAY and short:
            holders[0] = TokenStrings(holders[0])  # the words as they are by now
        new_id = 256 + len(merges)
        merges[pair >> SHIFT, pair & RIGHT] = new_id
        if report:
            report(pair >> SHIFT, pair & RIGHT, new_id, count)
        for holder in holders:
            for lost, born, number in holder.merge(pair, new_id):
                counts[lost] -= number
                if not counts[lost]:
                    del counts[lost]  # for good: the pairs that a merge brings about have its new id
                    for other in holders:
                        other.places.pop(lost, None)
                counts[born] = count = counts.get(born, 0) + number
                if count >= floor:
                    heapq.heappush(heap, born - (count << ENTRY))
        counts.pop(pair, None)
    return merges
