"""How a word becomes tokens: of all neighbours the pair that was learned first is merged, again and again.

`ranks` is {(left id, right id): how many merges were learned before it}, and `made` the ids that the
merges make, in that order. Three ways to the same ids: for words, for words of any length, and for
long words in bulk.
"""

import heapq

from token_array import TokenArray

NEVER = 1 << 62  # the rank of a pair that is no merge


def merge_word(ids, ranks, made):
    """Merge the ids of a word in place: quick for dozens of bytes, quadratic in their number."""
    waiting = [ranks.get(pair, NEVER) for pair in zip(ids, ids[1:])]
    while waiting and (first := min(waiting)) < NEVER:
        i = waiting.index(first)
        ids[i:i + 2] = [made[first]]
        del waiting[i]
        if i > 0:
            waiting[i - 1] = ranks.get((ids[i - 1], ids[i]), NEVER)
        if i < len(waiting):
            waiting[i] = ranks.get((ids[i], ids[i + 1]), NEVER)
    return ids


def merge_by_rank(ids, merge_of):
    """The same for n ids in O(n log n) steps; `merge_of` is {(left id, right id): (rank, new id)}.get."""
    ids = [*ids, None]  # None: gone, or the end
    next, previous = list(range(1, len(ids) + 1)), list(range(-1, len(ids) - 1))
    heap = []

    def wait(left):
        """Put the pair that begins at a place into the heap, if it can be merged."""
        pair = ids[left], ids[next[left]]
        if found := merge_of(pair):
            heapq.heappush(heap, (found[0], left, pair, found[1]))

    for left in range(len(ids) - 1):
        wait(left)
    while heap:
        _, left, pair, new_id = heapq.heappop(heap)
        right = next[left]
        if (ids[left], ids[right]) != pair:  # another merge came first
            continue
        ids[left], ids[right] = new_id, None
        next[left] = next[right]
        previous[next[left]] = left
        wait(left)
        if previous[left] >= 0:
            wait(previous[left])
    return [i for i in ids if i is not None]


def merge_in_bulk(data, byte_ids, codes, made):
    """The same for a long word of bytes; `codes` is {left id << SHIFT | right id: rank}.

    All places of a pair are merged at once. That is right if each merge was learned later than any
    that makes one of its two ids: then no pair that it brings about should have come before it.
    """
    array = TokenArray([data], [1], byte_ids)
    heap = [(codes[pair], pair) for pair in array.counts if pair in codes]
    heapq.heapify(heap)
    while heap:
        rank, pair = heapq.heappop(heap)
        for _, born, _ in array.merge(pair, made[rank]):
            if born in codes:
                heapq.heappush(heap, (codes[born], born))
    return array.ids[array.ids >= 0].tolist()
