"""Measure chains together beside chains one by one, and scores and likelihoods beside the libraries that have them.

    python 07_cot/benchmark.py      # five minutes; figures/benchmark.json, and the table in README.md

sacrebleu, rouge-score and transformers are needed, pip install -r .ci/oracles.txt, and SmolLM2's weights and MMLU.
"""

import random
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import flags
import measure
from chains import row_generators, think
from engine import load_engine
from exam_questions import questions
from fast_decode import FastDecode
from likelihood import LETTERS, Likelihoods
from pretrained import export
from prompting import listed, shots_of
from reasoner import ensure_reasoner, load_reasoner
from sampling import Sampling
from text_scores import corpus_bleu, rouge

HERE = Path(__file__).resolve().parent
QUESTION, COUNT, SENTENCES = "3*9+6*8*2*1-5?", 16, 300
EXAM, ASKED = "mmlu:college_mathematics", 8


def thinking_rows(reasoner, rounds, args):
    """16 chains of one question in one batch beside the same 16, one by one; they are the same chains."""
    model, dtype, tokenizer, _ = load_reasoner(reasoner, args)
    model, settings = FastDecode(model, dtype), Sampling(1.0)

    def together():
        return think(model, tokenizer, [QUESTION], COUNT, settings, generators=row_generators(COUNT, 0))[0]

    def one_by_one():
        return [think(model, tokenizer, [QUESTION], 1, settings, generators=[generator])[0][0]
                for generator in row_generators(COUNT, 0)]

    if [chain.text for chain in together()] != [chain.text for chain in one_by_one()]:
        sys.exit("they are not the same chains: the times can't be compared")
    yield measure.seconds_in_turn(f"{COUNT} chains of one question", together, "one by one", one_by_one, rounds)
    questions = [f"{i // 10}*{i % 10}+6*8*2*1-5?" for i in range(64)]
    yield measure.seconds_in_turn(
        "a greedy chain for each of 64 questions", lambda: think(model, tokenizer, questions), "one by one",
        lambda: [think(model, tokenizer, [question]) for question in questions], rounds)


def score_rows(rounds):
    """BLEU and ROUGE of sentences that share most of their words."""
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sleeps,", "of", "3.5", "cats"]
    chance = random.Random(0)
    said = [" ".join(chance.choices(words, k=20)) for _ in range(SENTENCES)]
    wanted = [" ".join(word if chance.random() < 0.7 else chance.choice(words) for word in text.split())
              for text in said]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    theirs = sacrebleu.corpus_bleu(said, [wanted]).score
    if abs(corpus_bleu(said, wanted) - theirs) > 1e-9:
        sys.exit("BLEU differs: the times can't be compared")
    yield measure.seconds_in_turn(f"BLEU of {SENTENCES} sentences", lambda: corpus_bleu(said, wanted), "sacrebleu",
                                  lambda: sacrebleu.corpus_bleu(said, [wanted]), rounds)
    yield measure.seconds_in_turn(
        f"ROUGE-1, -2 and -L of {SENTENCES} sentences", lambda: [rouge(a, b) for a, b in zip(said, wanted)],
        "rouge-score", lambda: [scorer.score(b, a) for a, b in zip(said, wanted)], rounds)


def likelihood_rows(rounds, args):
    """Letters of MMLU, five questions shown, beside transformers with the same weights and all texts in one batch."""
    import transformers

    engine, shots, asked = load_engine("smollm2", args), shots_of(EXAM, "direct"), questions(EXAM)[:ASKED]
    with tempfile.TemporaryDirectory() as folder:
        export(engine.model.model, engine.tokenizer, folder)
        model = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    beginning = Likelihoods(engine, EXAM, shots).beginning
    rows = [engine.tokenizer.encode(beginning + listed(question)) for question in asked]
    letters = [engine.tokenizer.encode(f" {letter}")[0] for letter in LETTERS]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])  # padded on the left: all end together
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])

    def theirs():
        logits = model(ids, attention_mask=mask, logits_to_keep=1).logits[:, -1]
        return logits.log_softmax(-1)[:, letters]

    def ours():  # with the reading of what is shown, which a longer exam has once
        return torch.tensor([scores for _, scores in Likelihoods(engine, EXAM, shots).answer(asked)])

    if (ours() - theirs()).abs().max() > 1e-3:
        sys.exit("they are not the same likelihoods: the times can't be compared")
    yield measure.seconds_in_turn(f"letters of {ASKED} questions of MMLU, five shown, by SmolLM2", ours,
                                  "transformers", theirs, rounds)


def main():
    parser = flags.Parser("Measure chains at once, and scores of texts.")
    flags.machine_flags(parser, seed=False)
    parser.set_defaults(dtype="float32")  # as transformers computes: in bfloat16 likelihoods would differ
    args = measure.arguments(parser, rounds=7)
    try:
        import rouge_score  # noqa: F401
        import sacrebleu  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise flags.UserError(f"{error.name} is missing: pip install -r .ci/oracles.txt") from error
    torch.set_num_threads(1)
    reasoner = ensure_reasoner("arithmetic")  # which may train one first
    with torch.no_grad():
        rows = [*thinking_rows(reasoner, args.rounds, args), *score_rows(args.rounds),
                *likelihood_rows(args.rounds, args)]
    machine = measure.machine("torch", "sacrebleu", "rouge-score", "transformers")
    results = {"machine": f"{machine}; one thread", "rounds": args.rounds, "rows": rows}
    measure.publish(results, HERE, args.print_only)


if __name__ == "__main__":
    flags.run(main)
