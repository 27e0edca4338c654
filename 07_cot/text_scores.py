"""How much a text says what another one says, in the same words: BLEU and ROUGE.

    a, b = "the quick brown fox jumps over the lazy dog", "the quick brown fox jumped over the lazy dog"
    corpus_bleu([a], [b])    # 59.69
    rouge(a, b)              # {"rouge1": 0.8889, "rouge2": 0.75, "rougeL": 0.8889}

Each text has one reference. BLEU is from 0 to 100 and ROUGE from 0 to 1, as people report them. Equal to sacrebleu's
defaults and to rouge-score without its stemmer, which is a page of rules for English endings. Neither knows whether
what a text says is true.
"""

import math
import re
from collections import Counter

LONGEST = 4  # n of the longest n-grams of BLEU
ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
# What is cut off, in this order: all signs but ' , - . and then . , where they are in no number, and - behind a digit
CUTS = [(re.compile(r"""([!"#$%&()*+/:;<=>?@\[\\\]^_`{|}~])"""), r" \1 "), (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
        (re.compile(r"([.,])([^0-9])"), r" \1 \2"), (re.compile(r"([0-9])(-)"), r"\1 \2 ")]


def bleu_tokens(text):
    """"It's 1,000." -> ["It's", "1,000", "."]: as NIST's mteval-v13a.pl cuts a text, which sacrebleu calls 13a."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in ENTITIES.items():
        text = text.replace(entity, sign)
    text = f" {text} "
    for pattern, apart in CUTS:
        text = pattern.sub(apart, text)
    return text.split()


def ngrams(tokens, n):
    """How often each run of n tokens is there."""
    return Counter(zip(*(tokens[i:] for i in range(n))))


def matches(hypothesis, reference):
    """Of two lists of tokens: (how many n-grams they share, how many the first has), each for n = 1 ... LONGEST."""
    found = [ngrams(hypothesis, n) for n in range(1, LONGEST + 1)]
    shared = [(ngram & ngrams(reference, n)).total() for n, ngram in enumerate(found, 1)]
    return shared, [ngram.total() for ngram in found]


def corpus_bleu(hypotheses, references):
    """BLEU of texts, each with its reference; n-grams are counted over all of them together.

    Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; where no n-gram is shared,
    Chen and Cherry 2014, "A Systematic Comparison of Smoothing Techniques", method 3. Raises ValueError where the
    numbers of texts differ.
    """
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(f"{len(hypotheses)} texts and {len(references)} references: each text needs one")
    pairs = [(bleu_tokens(text), bleu_tokens(reference)) for text, reference in zip(hypotheses, references)]
    shared, total = ([sum(column) for column in zip(*rows)] for rows in zip(*(matches(*pair) for pair in pairs)))
    length, reference_length = (sum(map(len, side)) for side in zip(*pairs))
    if not any(shared) or not all(total):
        return 0.0
    # BP exp(1/N sum_n log p_n), p_n = shared n-grams / n-grams, or 1 / 2^i n-grams for the i-th n that shares none
    logarithms, none = 0.0, 0
    for right, all_of_them in zip(shared, total):
        none += right == 0
        logarithms += math.log((right or 2.0**-none) / all_of_them)
    brevity_penalty = math.exp(min(0.0, 1 - reference_length / length))
    return 100 * brevity_penalty * math.exp(logarithms / LONGEST)


def rouge_tokens(text):
    return re.findall("[a-z0-9]+", text.lower())


def rouge(hypothesis, reference):
    """The F1 of shared words, of shared pairs of words, and of the longest common subsequence.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", sections 2 and 3.
    """
    a, b = rouge_tokens(hypothesis), rouge_tokens(reference)
    scores = {}
    for n in (1, 2):
        mine, wanted = ngrams(a, n), ngrams(b, n)
        scores[f"rouge{n}"] = f1((mine & wanted).total(), mine.total(), wanted.total())
    return scores | {"rougeL": f1(common_subsequence(a, b), len(a), len(b))}


def f1(shared, mine, wanted):
    # 2 P R / (P + R) with P = shared / mine, R = shared / wanted
    return 2 * shared / (mine + wanted) if shared else 0.0


def common_subsequence(a, b):
    """The length of the longest sequence that is in both, with gaps: "abcd", "xbxd" -> 2."""
    lengths = [0] * (len(b) + 1)  # of what has been read of a, and each beginning of b
    for x in a:
        before = lengths
        lengths = [0]
        for j, y in enumerate(b):
            lengths.append(before[j] + 1 if x == y else max(before[j + 1], lengths[j]))
    return lengths[-1]
