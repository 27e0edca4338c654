"""Words as one array of token ids, in which numpy merges all places of a pair at once.

A merge costs what the pair's places cost, however long the words are: this is how very long words are
trained on and encoded, and how the first merges of a training, which have the most places, are made.
"""

import numpy as np

BOUNDARY, GONE = -1, -2  # what stands around each word, and where the right half of a merged pair was
SHIFT = 21  # a pair is one number, left << 21 | right
RIGHT = (1 << SHIFT) - 1


class TokenArray:
    """The ids of words, at first those of their bytes, as a doubly linked list.

    `counts` is {pair: occurrences} at the start; every merge tells how they change.
    """

    def __init__(self, words, occurrences, byte_ids=range(256)):
        text = np.frombuffer(b"\0" + b"\0".join(words) + b"\0", np.uint8)
        sizes = np.fromiter(map(len, words), np.int64, len(words)) + 1
        self.ids = np.array(byte_ids, np.int32)[text]
        self.ids[0] = BOUNDARY
        self.ids[np.cumsum(sizes)] = BOUNDARY
        self.next = np.arange(1, len(text) + 1, dtype=np.int32)
        self.previous = np.arange(-1, len(text) - 1, dtype=np.int32)
        self.word = np.append(np.int32(0), np.repeat(np.arange(len(words), dtype=np.int32), sizes))
        self.occurrences = np.asarray(occurrences, np.int64)

        left = np.flatnonzero((self.ids[:-1] >= 0) & (self.ids[1:] >= 0)).astype(np.int32)
        two_bytes = text[left].astype(np.uint16) << 8 | text[left + 1]  # 16 bits, which numpy sorts fastest
        self.places = {}  # pair -> arrays of the places of its left id, now or once
        self.counts = {}
        for key, count, places in self.grouped(two_bytes, left):
            pair = byte_ids[key >> 8] << SHIFT | byte_ids[key & 255]
            self.places[pair], self.counts[pair] = [places], count

    def grouped(self, keys, places):
        """Yield (key, occurrences of the words at its places, its places) for each key that is there."""
        if not len(keys):
            return
        order = keys.argsort(kind="stable")
        keys, places = keys[order], places[order]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        counts = np.add.reduceat(self.occurrences[self.word[places]], starts).tolist()
        begin = 0
        for key, count, end in zip(keys[starts].tolist(), counts, [*starts[1:].tolist(), len(keys)]):
            yield key, count, places[begin:end]
            begin = end

    def merge(self, pair, new_id):
        """Merge a pair wherever it occurs, from the left; returns [(pair lost, pair born, occurrences)]."""
        if pair not in self.places:
            return []
        left_id, right_id = pair >> SHIFT, pair & RIGHT
        ids, next, previous = self.ids, self.next, self.previous
        places = np.concatenate(self.places.pop(pair))
        places = places[(ids[places] == left_id) & (ids[next[places]] == right_id)]
        if left_id == right_id and len(places):  # in a run such as "aaaaa" take every other place
            places.sort()
            starts = np.flatnonzero(np.append(True, next[places[:-1]] != places[1:]))
            start = np.repeat(starts, np.diff(np.append(starts, len(places))))
            places = places[(np.arange(len(places)) - start) % 2 == 0]

        gone = next[places]
        after = next[gone]
        ids[places], ids[gone] = new_id, GONE
        next[places], previous[after] = after, places
        before = previous[places]

        changes = []
        inside = ids[before] >= 0
        for neighbour, count, where in self.grouped(ids[before[inside]], before[inside]):
            born = neighbour << SHIFT | new_id
            self.places.setdefault(born, []).append(where)
            was = right_id if neighbour == new_id else neighbour  # two merged pairs side by side
            changes.append((was << SHIFT | left_id, born, count))
        inside = (ids[after] >= 0) & (ids[after] != new_id)
        for neighbour, count, where in self.grouped(ids[after[inside]], places[inside]):
            born = new_id << SHIFT | neighbour
            self.places.setdefault(born, []).append(where)
            changes.append((right_id << SHIFT | neighbour, born, count))
        return changes
