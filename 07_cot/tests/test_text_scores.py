"""BLEU equals sacrebleu and ROUGE equals rouge-score, on sentences, random words and texts full of awkward signs."""

import random

import pytest
from for_tests import oracle, random_strings
from text_scores import bleu_tokens, common_subsequence, corpus_bleu, rouge, rouge_tokens

FOX = ("the quick brown fox jumps over the lazy dog", "the quick brown fox jumped over the lazy dog")
AWKWARD = ["", " ", "\n", "-\n", "a-\nb", "a-\r\nb", "line\nbreak-\n", "1,000.50 and .5, 5. or 5.x", "a.,b 1.,2 .,.",
           "3-4 -3 a-b 7-", "it's 'so'", "&quot;x&quot; &amp;lt; &lt;b&gt;", "&amp;amp;quot;",
           "<skipped>x<skip<skipped>ped>", "a;b;#c=1", "İstanbul ǅ ß ﬁ é", "北京 大学。", "x\u00a0y\u2028z\x1cw",
           "\ud800 lone", "{}[]|~`^_\\@?:%$", "5,,6 5..6 5.,6", "!", "the the the the", "b", "a b c", "a b c d"]


def pairs():
    """Pairs of texts: the awkward ones, random signs, and random words of which many are shared."""
    texts = AWKWARD + list(random_strings(300, seed=1))
    generator = random.Random(2)
    yield FOX
    yield from zip(AWKWARD, AWKWARD)
    yield from ((generator.choice(texts), generator.choice(texts)) for _ in range(600))
    words = ["a", "the", "cat", "sat.", "1,000", "3-4", "-", "it's", "dog", "Dog", "(x)"]
    for _ in range(600):
        text = generator.choices(words, k=generator.randint(0, 14))
        other = [word if generator.random() < 0.7 else generator.choice(words) for word in text]
        yield " ".join(text), " ".join(other[: generator.randint(0, 16)])


def test_scores_that_are_known():
    assert corpus_bleu(*([text] for text in FOX)) == pytest.approx(59.694918, abs=1e-6)
    assert rouge(*FOX) == pytest.approx({"rouge1": 8 / 9, "rouge2": 0.75, "rougeL": 8 / 9})
    assert corpus_bleu(FOX[:1], FOX[:1]) == pytest.approx(100)


def test_tokens_equal_sacrebleu():
    theirs = oracle("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    for text in AWKWARD + list(random_strings(3000, seed=3)):
        assert bleu_tokens(text) == theirs(text.rstrip()).split(), repr(text)


def test_bleu_of_one_text_equals_sacrebleu():
    sacrebleu = oracle("sacrebleu")
    above = 0
    for text, reference in pairs():
        wanted = sacrebleu.corpus_bleu([text], [[reference]], force=True).score
        assert corpus_bleu([text], [reference]) == pytest.approx(wanted, abs=1e-9), (text, reference)
        above += wanted > 0
    assert above > 600, "most of these pairs should share something"


def test_corpus_bleu_equals_sacrebleu():
    sacrebleu, generator = oracle("sacrebleu"), random.Random(4)
    everything = list(pairs())
    for size in (1, 2, 3, 10, 100) * 30:
        texts, references = zip(*generator.choices(everything, k=size))
        wanted = sacrebleu.corpus_bleu(texts, [references], force=True).score
        assert corpus_bleu(texts, references) == pytest.approx(wanted, abs=1e-9), (texts, references)


def test_rouge_equals_rouge_score():
    scorer = oracle("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for text, reference in pairs():
        wanted = {name: score.fmeasure for name, score in scorer.score(reference, text).items()}
        assert rouge(text, reference) == pytest.approx(wanted, abs=1e-12), (text, reference)


def test_subsequences_have_gaps():
    assert common_subsequence("abcd", "xbxd") == 2 and common_subsequence("abc", "") == 0
    assert common_subsequence(rouge_tokens("a B, c"), rouge_tokens("C-b-a")) == 1


def test_each_text_needs_a_reference():
    with pytest.raises(ValueError, match="2 texts and 1 references: each text needs one"):
        corpus_bleu(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="0 texts"):
        corpus_bleu([], [])
