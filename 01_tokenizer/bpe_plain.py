"""Byte-pair encoding, trained twice: by recounting everything, and by updating the counts in place.

Both take the unique words of a text with how often each occurs, and give the same merges:
{(left id, right id): new id}, in the order in which they were learned. Ids 0 to 255 are the bytes.
At equal counts the pair with the smallest (left id, right id) wins.
(Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword Units",
algorithm 1; after Gage 1994, "A New Algorithm for Data Compression")
"""

import heapq
from collections import Counter, defaultdict


def merge(ids, pair, new_id):
    """Replace each occurrence of the pair, from the left: [1, 2, 3, 1, 2], (1, 2), 4 -> [4, 3, 4]."""
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def count_pairs(words):
    """How often each pair of neighbours occurs: {(1, 2, 3, 1, 2): 1} -> {(1, 2): 2, (2, 3): 1, (3, 1): 1}."""
    counts = Counter()
    for ids, occurrences in words.items():
        for pair in zip(ids, ids[1:]):
            counts[pair] += occurrences
    return counts


def train_naive(word_counts, merge_count, min_count=1):
    """Learn merges from {word as bytes: occurrences}: count all pairs, merge the commonest, begin again.

    Ends early when no pair occurs `min_count` times.
    """
    words = {tuple(word): occurrences for word, occurrences in word_counts.items()}
    merges = {}
    for new_id in range(256, 256 + merge_count):
        counts = count_pairs(words)
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < min_count:
            break
        merges[best] = new_id
        words = {tuple(merge(ids, best, new_id)): occurrences for ids, occurrences in words.items()}
    return merges


def train_in_place(word_counts, merge_count, min_count=1, watch=None):
    """The same merges, but each one touches only the words that contain its pair.

    The counts are exact after every merge: a word that changes takes the pairs that it had out of
    them and puts the pairs that it has now in. `watch(words, counts)`, if given, is called after
    each merge with the words as {index: ids} and the counts, for a test to compare with a recount.
    """
    words = [list(word) for word in word_counts]
    occurrences = list(word_counts.values())
    counts = Counter()  # pair -> how often it occurs now
    words_with = defaultdict(set)  # pair -> indices of the words that contain it, or once did
    for index, ids in enumerate(words):
        for pair in zip(ids, ids[1:]):
            counts[pair] += occurrences[index]
            words_with[pair].add(index)

    # A heap gives the commonest pair without looking at all of them. Only pairs with the newest id
    # grow, and those are pushed anew; where a count falls, the stale entry is put back when it comes up.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges = {}
    while heap and len(merges) < merge_count:
        count, best = heapq.heappop(heap)
        if -count != counts[best]:
            if counts[best] > 0:
                heapq.heappush(heap, (-counts[best], best))
            continue
        if counts[best] < min_count:
            break
        new_id = merges[best] = 256 + len(merges)
        born = set()
        for index in words_with.pop(best):
            old, new = words[index], merge(words[index], best, new_id)
            for pair in zip(old, old[1:]):
                counts[pair] -= occurrences[index]
            for pair in zip(new, new[1:]):
                counts[pair] += occurrences[index]
                if new_id in pair:
                    words_with[pair].add(index)
                    born.add(pair)
            words[index] = new
        for pair in born:
            heapq.heappush(heap, (-counts[pair], pair))
        if watch:
            watch(dict(enumerate(words)), counts)
    return merges
