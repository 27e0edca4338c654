"""Filters and `generate` against transformers'; decoding with a memory against reading everything anew."""

import pytest
import torch
from for_tests import oracle
from gpt import GPT, GPTConfig
from key_value_cache import left_pad
from logit_filters import (
    ban,
    ban_repeated_ngrams,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    tokens_in,
)
from sampling import Completion, Reading, Sampling, best_of, complete, generate, stream
from writing import stop_at, until

KINDS = {
    "learned": {},
    "rotary, grouped": {"positions": "rotary", "attention": "grouped_query", "key_value_head_count": 2},
    "latent": {"attention": "latent", "positions": "rotary"},
}


def small(kind="learned", **sizes):
    torch.manual_seed(0)
    config = {"vocab_size": 50, "embedding_size": 32, "block_size": 32, "head_count": 4, "layer_count": 2, **sizes}
    model = GPT(GPTConfig(**config, **KINDS[kind])).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model


@pytest.fixture(params=KINDS)
def model(request):
    return small(request.param)


def greedy_without_memory(model, ids, count):
    with torch.no_grad():
        for _ in range(count):
            ids = torch.cat([ids, model(ids)[0][:, -1:].argmax(-1)], dim=1)
    return ids


# ---- filters ----


def logit_rows():
    """Random scores, some equal, some far apart, some forbidden already."""
    torch.manual_seed(0)
    random = torch.randn(20, 40) * 3
    return {
        "random": random, "with ties": random.round(), "extreme": random * 1000, "all equal": torch.zeros(2, 40),
        "some forbidden": random.masked_fill(torch.rand(20, 40) < 0.5, -torch.inf),
    }


@pytest.mark.parametrize("logits", logit_rows().values(), ids=logit_rows())
@pytest.mark.parametrize(("ours", "name", "values"), [
    (keep_top_k, "TopKLogitsWarper", [1, 5, 40, 99]),
    (keep_top_p, "TopPLogitsWarper", [0.01, 0.31, 0.77, 0.95]),
    (keep_min_p, "MinPLogitsWarper", [0.0, 0.05, 0.31, 1.0]),
])
def test_filters_by_rank_equal_transformers(ours, name, values, logits):
    processors = oracle("transformers.generation.logits_process")
    for value in values:
        found, expected = ours(logits, value), getattr(processors, name)(value)(None, logits)
        # which of several equal ones top-p keeps depends on how they are sorted: how many is what counts
        found, expected = (each.sort(-1)[0] for each in (found, expected)) if ours is keep_top_p else (found, expected)
        assert torch.equal(found, expected), f"{value}: is the token at the threshold kept?"


def test_top_p_keeps_what_is_under_the_threshold():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    for p, kept in ((0.1, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.96, 4)):
        assert keep_top_p(logits, p).isfinite().sum() == kept, f"{p}: the token that passes p is kept"
    assert keep_top_p(logits, 0.51)[0, :2].equal(logits[0, :2])


@pytest.mark.parametrize("logits", logit_rows().values(), ids=logit_rows())
def test_filters_that_look_back_equal_transformers(logits):
    processors = oracle("transformers.generation.logits_process")
    for length in (1, 2, 3, 30):
        ids = torch.randint(6, (len(logits), length))
        for penalty in (0.8, 1.0, 1.3, 50.0):
            expected = processors.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits)
            assert torch.equal(penalize_repetition(logits, ids, penalty), expected), "are negative scores multiplied?"
        for n in (1, 2, 3, 4):
            expected = processors.NoRepeatNGramLogitsProcessor(n)(ids, logits)
            assert torch.equal(ban_repeated_ngrams(logits, ids, n), expected), f"{n} tokens, {length} so far"
        expected = processors.MinLengthLogitsProcessor(length + 1, eos_token_id=[3, 5])(ids, logits)
        assert torch.equal(ban(logits, (3, 5)), expected)
    assert torch.equal(ban(logits, ()), logits)


def test_padding_is_no_part_of_a_text():
    """-1 before a shorter text changes nothing."""
    logits = torch.randn(1, 40)
    for length in (1, 2, 9):
        ids = torch.randint(4, (1, length))
        padded = torch.nn.functional.pad(ids, (5, 0), value=-1)
        assert torch.equal(penalize_repetition(logits, padded, 2.0), penalize_repetition(logits, ids, 2.0))
        for n in (1, 2, 3, 4):
            assert torch.equal(ban_repeated_ngrams(logits, padded, n), ban_repeated_ngrams(logits, ids, n))
    assert tokens_in(torch.tensor([[2, 0, 2], [-1, -1, 3]]), 4).int().tolist() == [[1, 0, 1, 0], [0, 0, 0, 1]]


def test_something_is_always_left_to_say():
    assert ban_repeated_ngrams(torch.zeros(1, 3), torch.tensor([[0, 1, 2]]), 1).tolist() == [[0, 0, 0]]
    ids = generate(small(vocab_size=3), torch.tensor([[0]]), 20, no_repeat_ngram=1)
    assert ids.shape == (1, 21) and set(ids[0, :3].tolist()) == {0, 1, 2}


def test_a_draw_is_as_likely_as_the_filtered_probabilities():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0, -torch.inf])
    settings = Sampling(temperature=0.7, top_k=4, top_p=0.98, min_p=0.02)
    expected = (logits[:3] / 0.7).softmax(-1)  # top-k leaves four, and the likeliest three hold .987
    torch.manual_seed(0)
    count = 100_000
    drawn = settings.choose(logits.expand(count, -1), torch.rand(count)).bincount(minlength=6) / count
    assert (drawn[:3] - expected).abs().max() < 0.01 and drawn[3:].sum() == 0
    # the ends: no number leads to a token without probability
    ends = torch.tensor([0.0, 1 - 2**-24])
    forbidden = torch.tensor([-torch.inf, 0.0, 0.0, -torch.inf]).expand(2, -1)
    assert Sampling().choose(forbidden, ends).tolist() == [1, 2]


# ---- generate ----


def test_greedy_with_a_memory_equals_reading_everything_anew(model):
    ids = torch.randint(50, (3, 7))
    assert torch.equal(generate(model, ids, 25, temperature=0), greedy_without_memory(model, ids, 25))


def test_logits_with_a_memory_equal_the_whole_forward(model):
    text = torch.randint(50, (2, 12))
    reading = Reading(model, text[:, :5].tolist(), 10)
    with torch.no_grad():
        for i in range(5, 12):
            assert torch.allclose(reading.next_logits(), model(text[:, :i])[0][:, -1], atol=1e-4)
            reading.append(text[:, i])


def test_beyond_block_size_the_last_half_block_is_read_again(model):
    torch.manual_seed(1)
    ids = torch.randint(50, (2, 9))
    with torch.no_grad():
        expected, begin = ids, 0
        for _ in range(80):
            if expected.shape[1] - begin > 32:
                begin = expected.shape[1] - 16
            expected = torch.cat([expected, model(expected[:, begin:])[0][:, -1:].argmax(-1)], dim=1)
    assert torch.equal(generate(model, ids, 80, temperature=0), expected)
    # a prompt that is too long is read as far as it fits
    long = torch.randint(50, (1, 50))
    assert torch.equal(generate(model, long, 1, temperature=0)[:, -1], model(long[:, -32:])[0][:, -1].argmax(-1))
    assert generate(small(block_size=1), ids, 5).shape == (2, 14)


def test_prompts_of_different_lengths_are_continued_as_each_alone(model):
    prompts = [torch.randint(50, (length,)).tolist() for length in (9, 1, 4, 9)]
    settings = Sampling(temperature=0, repetition_penalty=1.2, no_repeat_ngram=2)
    together = complete(model, prompts, 70, settings)  # beyond block_size, too
    for prompt, text in zip(prompts[1:3], together[1:3]):
        alone = complete(model, [prompt], 20, settings)[0]
        assert text.ids[:20] == alone.ids, "does padding count as a token?"
        assert text.log_probabilities[:20] == pytest.approx(alone.log_probabilities, abs=1e-4)
    assert together[0].ids[:20] == complete(model, prompts[:1], 20, settings)[0].ids


@pytest.mark.parametrize("settings", [
    {}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}, {"min_new_tokens": 20}, {"eos_token_id": [1, 7, 9]},
    {"repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "min_new_tokens": 5, "eos_token_id": [3, 4]},
])
def test_greedy_equals_transformers(peers, settings):
    theirs, ours = peers
    names = {"no_repeat_ngram_size": "no_repeat_ngram", "eos_token_id": "stop_tokens"}
    mine = Sampling(temperature=0, **{"stop_tokens": [1], **{names.get(name, name): value
                                                             for name, value in settings.items()}})
    torch.manual_seed(2)
    prompts = [torch.randint(2, 40, (length,)).tolist() for length in (11, 3, 7, 1, 11)]
    texts = complete(ours, prompts, 40, mine)
    for prompt, text in zip(prompts, texts):
        ids = torch.tensor([prompt])
        result = theirs.generate(ids, max_new_tokens=40, do_sample=False, output_logits=True,
                                 return_dict_in_generate=True, **settings)
        assert text.ids == result.sequences[0, len(prompt) :].tolist()
        scores = torch.cat(result.logits).log_softmax(-1)[torch.arange(len(text.ids)), text.ids]
        assert torch.allclose(torch.tensor(text.log_probabilities), scores, atol=1e-4)


def test_a_padded_batch_equals_transformers(peers):
    theirs, ours = peers
    torch.manual_seed(3)
    prompts = [torch.randint(2, 40, (length,)).tolist() for length in (5, 12, 1)]
    ids, padding = left_pad(prompts)
    mask = (torch.arange(12) >= padding[:, None]).long()
    expected = theirs.generate(ids, attention_mask=mask, max_new_tokens=50, do_sample=False)[:, 12:]
    for text, row in zip(complete(ours, prompts, 50, Sampling(temperature=0, stop_tokens=(1,))), expected.tolist()):
        assert row[: len(text.ids)] == text.ids and not any(row[len(text.ids) :]), "does a finished row go on?"


def test_each_drawn_token_has_passed_the_filters_of_transformers(peers):
    """What is drawn at random, step by step: never what transformers' filters forbid."""
    processors = oracle("transformers.generation.logits_process")
    theirs, ours = peers
    mine = Sampling(0.9, 12, 0.9, 0.05, repetition_penalty=1.2, no_repeat_ngram=2, min_new_tokens=10, stop_tokens=(1,))
    prompt = [5, 6, 7]
    for text in complete(ours, [prompt], 40, mine, samples=8, generator=torch.Generator().manual_seed(0)):
        ids = torch.tensor([prompt + text.ids])
        chain = processors.LogitsProcessorList([
            processors.RepetitionPenaltyLogitsProcessor(1.2), processors.NoRepeatNGramLogitsProcessor(2),
            processors.MinNewTokensLengthLogitsProcessor(3, 10, 1), processors.TemperatureLogitsWarper(0.9),
            processors.TopKLogitsWarper(12), processors.TopPLogitsWarper(0.9), processors.MinPLogitsWarper(0.05)])
        with torch.no_grad():
            logits = theirs(ids).logits
        for i in range(3, ids.shape[1]):
            allowed = chain(ids[:, :i], logits[:, i - 1].clone())[0]
            assert allowed[ids[0, i]] > -torch.inf, f"token {i - 2} is forbidden"


def test_samples_share_one_reading_of_the_prompt(model, monkeypatch):
    lengths = []
    hidden = model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, **more: lengths.append(tuple(ids.shape)) or hidden(ids, **more))
    prompts = [[1, 2, 3, 4], [5, 6]]
    texts = complete(model, prompts, 5, Sampling(temperature=0), samples=3)
    assert lengths == [(2, 4)] + [(6, 1)] * 4
    alone = [complete(model, [prompt], 5, Sampling(temperature=0))[0].ids for prompt in prompts]
    assert [text.ids for text in texts] == [alone[0]] * 3 + [alone[1]] * 3


def test_finished_rows_drop_out_of_the_batch(model, monkeypatch):
    prompts = [torch.randint(50, (length,)).tolist() for length in (6, 3, 8, 5)]
    free = complete(model, prompts, 20, Sampling(temperature=0))
    stop_tokens = (free[0].ids[2], free[3].ids[6])
    widths = []
    hidden = model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, **more: widths.append(len(ids)) or hidden(ids, **more))
    texts = complete(model, prompts, 20, Sampling(temperature=0, stop_tokens=stop_tokens))
    expected = []
    for text in free:
        ends = [i for i, token in enumerate(text.ids) if token in stop_tokens]
        expected.append(text.ids[: ends[0] + 1] if ends else text.ids)
    assert [text.ids for text in texts] == expected
    assert widths == [sum(len(ids) > step for ids in expected) for step in range(max(map(len, expected)))]
    # the tensor form repeats the last token of a row that has ended
    ids = generate(model, torch.tensor([prompts[0]]), 20, temperature=0, stop_tokens=stop_tokens)
    assert ids[0, 6:].tolist() == expected[0]


def test_a_generator_per_row_makes_rows_independent(model):
    def draw(prompts, seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return [text.ids for text in complete(model, prompts, 12, Sampling(stop_tokens=(7,)), generator=generators)]

    prompts = [[1, 2, 3], [4], [5, 6], [1, 2, 3]]
    together = draw(prompts, [10, 11, 12, 10])
    assert together == [draw([prompt], [seed])[0] for prompt, seed in zip(prompts, [10, 11, 12, 10])]
    assert together[0] == together[3] and draw(prompts[:1], [13])[0] != together[0]


def test_same_seed_same_text_and_the_model_stays_in_training(model):
    ids = torch.randint(50, (2, 3))
    model.train()
    torch.manual_seed(5)
    first = generate(model, ids, 10)
    torch.manual_seed(5)
    assert torch.equal(generate(model, ids, 10), first)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    assert torch.equal(*(generate(model, ids, 10, generator=generator) for generator in generators))
    assert model.training
    next(iter(stream(model, [[1]], 5)))
    assert model.training, "is a stream that nobody reads to its end left as it was?"


def test_best_of_is_the_likeliest_per_token():
    long = Completion([1, 2], [-1.0, -2.0])
    texts = [long, Completion([3], [-1.4]), Completion([4], [-5.0]), Completion([5], [-4.0])]
    assert [text.ids for text in best_of(texts, 2)] == [[3], [5]]


def test_an_empty_prompt_is_said_in_words(model):
    with pytest.raises(ValueError, match="at least one token"):
        complete(model, [[1], []], 3)
    assert torch.equal(generate(model, torch.tensor([[1, 2]]), 0), torch.tensor([[1, 2]]))


# ---- words instead of tokens ----


class Letters:
    """A tokenizer of one token per byte."""

    def decode_bytes(self, ids):
        return bytes(ids)


def test_stop_strings():
    stop = stop_at(Letters(), ["\n\n", "END"])
    assert stop(list(b"so it END")) and stop(list(b"a\n\n")) and not stop(list(b"EN D\n"))
    assert not stop(list(b"END was said long ago"))
    model = small(vocab_size=128)

    def write(**settings):
        return complete(model, [[65]], 20, Sampling(**settings), generator=torch.Generator().manual_seed(0))[0].ids

    free = write()
    ends = bytes(free[3:6]).decode()
    assert bytes(free).index(ends.encode()) == 3
    assert write(stop=stop_at(Letters(), [ends, "never said"])) == free[:6]


def test_until_shows_nothing_of_a_stop_string_and_loses_nothing_else():
    assert list(until(["to be", " or n", "ot"], [" not"])) == ["to be", " or", ""]
    text = "one STO two STOP three"
    for size in range(1, 8):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        assert "".join(until(pieces, ["STOP"])) == "one STO two "
        assert "".join(until(pieces, ["three", "STOP"])) == "one STO two "
        assert "".join(until(pieces, ["four"])) == "".join(until(pieces, [])) == text
