"""A set of questions, N chains for each, m times over: the original project's experiment, with its figures apart."""

from chains import row_generators, think
from metrics import chain_metrics, one_line, over_runs, sample_metrics
from tasks import draw, find


def measured_runs(model, tokenizer, data, settings, limit, samples, runs, seed, difficulty=None,
                  max_new_tokens=None):
    """Yield lines: what each of `runs` came to on `limit` test problems of a family, then means and deviations.

    pass@N is what the original called accuracy; maj@N is what a user gets who lets the N chains vote.
    """
    family, problems = find(data), draw(data, "test", limit, 1, difficulty)
    questions, ks, found = [problem.question for problem in problems], sorted({1, samples}), []
    for run in range(runs):
        generators = row_generators(len(questions) * samples, seed + run)
        chains = think(model, tokenizer, questions, samples, settings, max_new_tokens, generators)
        groups = [([chain.answer for chain in each], [chain.answer is not None and family.right(question, chain.answer)
                                                      for chain in each]) for question, each in zip(questions, chains)]
        found.append(sample_metrics(groups, ks))
        all_chains = [(family, question, chain.text) for question, each in zip(questions, chains) for chain in each]
        yield f"run {run + 1}: {shares(found[-1])}; {one_line(chain_metrics(all_chains))}"
    if runs > 1:
        yield over_runs(found)


def shares(metrics):
    return ", ".join(f"{name} {share:.1%}" for name, share in metrics.items())
