"""Beam search against transformers', and against looking at every text there is."""

from itertools import product

import pytest
import torch
from beam_search import beam_search
from gpt import GPT, GPTConfig
from sampling import Sampling, complete


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5, -1.0])
def test_equals_transformers(peers, early_stopping, length_penalty):
    theirs, ours = peers
    cases = [(4, 12, [1]), (2, 30, [1]), (3, 20, [1, 5, 9]), (5, 3, [1]), (4, 12, list(range(1, 25)))]
    for seed, (beam_count, length, stop_tokens) in enumerate(cases):
        torch.manual_seed(seed)
        prompt = torch.randint(2, 40, (6,))
        expected = theirs.generate(
            prompt[None], max_new_tokens=length, num_beams=beam_count, do_sample=False, length_penalty=length_penalty,
            early_stopping=early_stopping, eos_token_id=stop_tokens, num_return_sequences=beam_count,
            output_scores=True, return_dict_in_generate=True,
        )
        found = beam_search(ours, prompt.tolist(), length, beam_count, length_penalty, early_stopping,
                            stop_tokens=stop_tokens)
        for (score, ids), row, their_score in zip(found, expected.sequences, expected.sequences_scores):
            assert ids == row[6 : 6 + len(ids)].tolist(), "are the memories of the beams reordered with them?"
            assert set(row[6 + len(ids) :].tolist()) <= {0, 1} and abs(score - their_score) < 1e-3
        assert len(found) == beam_count


def test_equals_transformers_with_filters(peers):
    theirs, ours = peers
    expected = theirs.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=25, num_beams=3, do_sample=False,
                               no_repeat_ngram_size=2, repetition_penalty=1.2, min_new_tokens=8)
    _, ids = beam_search(ours, [5, 6, 7], 25, 3, no_repeat_ngram=2, repetition_penalty=1.2, min_new_tokens=8,
                         stop_tokens=(1,))[0]
    assert ids == expected[0, 3:].tolist()


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=5, embedding_size=16, block_size=8, head_count=2, layer_count=2)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_equals_exhaustive_search_when_beams_are_enough(model, length_penalty):
    prompt, length, stop = [2, 3], 4, 0
    texts = {text[: text.index(stop) + 1] if stop in text else text for text in product(range(5), repeat=length)}
    scores = {}
    for text in texts:
        log_probabilities = model(torch.tensor([[*prompt, *text]]))[0].log_softmax(-1)[0, len(prompt) - 1 : -1]
        total = log_probabilities[torch.arange(len(text)), list(text)].sum().item()
        scores[text] = total / len(text) ** length_penalty
    expected = sorted(scores, key=scores.get, reverse=True)
    found = beam_search(model, prompt, length, 4**3 * 5, length_penalty, stop_tokens=(stop,))
    assert [tuple(ids) for _, ids in found[:20]] == expected[:20]
    assert [score for score, _ in found[:20]] == pytest.approx([scores[text] for text in expected[:20]], abs=1e-4)


def test_one_beam_is_greedy_and_goes_beyond_block_size(model):
    greedy = complete(model, [[1]], 20, Sampling(temperature=0))[0]
    [(score, ids)] = beam_search(model, [1], 20, beam_count=1, length_penalty=0.0)
    assert ids == greedy.ids and score == pytest.approx(sum(greedy.log_probabilities), abs=1e-3)
    assert len(beam_search(model, [1], 20, beam_count=3)[0][1]) == 20


def test_a_stop_function_ends_a_text(model):
    found = beam_search(model, [1, 2], 6, 8, stop=lambda ids: ids[-2:] == [3, 3])
    assert all(len(ids) == 6 or ids[-2:] == [3, 3] for _, ids in found)
    assert all(ids[i : i + 2] != [3, 3] for _, ids in found for i in range(len(ids) - 2))
