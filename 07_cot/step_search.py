"""Search over steps instead of tokens: a beam that keeps the best beginnings of a chain, and refinement of a chain."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
from chains import Chain, beginning_of, think
from sampling import Sampling


def step_beams(model, tokenizer, question, beams=4, tries=4, score=None, settings=None, most_steps=64):
    """The `beams` best Chains, the best first: each beginning gets one more step in `tries` ways, and the best stay.

    `score(question, texts of beginnings) -> numbers` says which are good, a verifier's, say; without it they are as
    good as likely. Ways that are the same count once. Yao et al. 2023, "Tree of Thoughts", section 3; with a process
    reward model: Snell et al. 2024, "Scaling LLM Test-Time Compute Optimally", section 5.2.
    """
    a_step = replace(settings or Sampling(0.7), stop=lambda ids: tokenizer.decode(ids[-1:]) == ";")
    best = [Chain("")]
    for _ in range(most_steps):
        going_on = [chain for chain in best if chain.text.endswith(";") or not chain.text]
        if not going_on:
            break
        found = {chain.text: chain for chain in best if chain not in going_on}
        for chains in think(model, tokenizer, [question] * len(going_on), tries, a_step, begun=going_on):
            found |= {chain.text: chain for chain in chains}
        found = list(found.values())
        values = score(question, [chain.text for chain in found]) if score else [c.log_probability for c in found]
        best = [chain for _, chain in sorted(zip(values, found), key=lambda pair: -pair[0])[:beams]]
    return best


def refine(model, tokenizer, question, chain, rounds=2, tries=8, settings=None):
    """A Chain, written anew from the step on of which the model is least sure, as long as that makes it likelier.

    The model is its own critic, as in Madaan et al. 2023, "Self-Refine", section 2; its doubt is the feedback.
    """
    for _ in range(rounds):
        pieces = chain.step_log_probabilities()
        doubtful = min(range(len(pieces)), key=pieces.__getitem__)
        beginning = beginning_of(chain, sum(len(step) + 1 for step in chain.steps[:doubtful]))
        (found,) = think(model, tokenizer, [question], tries, settings or Sampling(0.7), begun=[beginning])
        best = max([chain, *found], key=lambda each: each.log_probability)
        if best is chain:
            break
        chain = best
    return chain
