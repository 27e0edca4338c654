"""Let BERT fill in blanks, say how likely a sentence is, or find the sentences that are most alike.

    python 05_bert_mlm/infer.py "The [MASK] returns a new list."
    python 05_bert_mlm/infer.py --score "Return a list of names." "Return a list of of."
    python 05_bert_mlm/infer.py -l minilm "How do I remove a file?" --similar sentences.txt
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from bert_tokens import Marks
from blanks import embed, encode, fill, fill_all, pseudo_log_likelihood
from flags import UserError
from mlm_training import ensure_model, load_model


def show_blanks(text, model, dtype, tokenizer, marks, most):
    ids = encode(text, tokenizer, marks, model.config.block_size)
    if marks.mask not in ids:
        raise UserError("the text has no [MASK]: write it where a token is to be guessed, or add --score")
    blanks = fill(model, ids, marks, dtype)
    for number, (_, likely) in enumerate(blanks, 1):
        print(f"[MASK] {number}" if len(blanks) > 1 else "[MASK]")
        for share, i in zip(*(found.tolist() for found in likely.topk(min(most, len(likely))))):
            print(f"  {share:6.1%}  {tokenizer.decode([i])!r}")
    print(f"filled in: {tokenizer.decode(fill_all(model, ids, marks, dtype)[1:-1])}")


def show_scores(texts, model, dtype, tokenizer, marks):
    for text in texts:
        ids = encode(text, tokenizer, marks, model.config.block_size)
        if len(ids) < 3:
            raise UserError("an empty text has no likelihood: give a sentence")
        found = pseudo_log_likelihood(model, ids, marks, dtype)
        print(f"{found.sum():9.2f} in all, {found.mean():6.2f} a token: {text}")
        print("  " + " ".join(f"{tokenizer.decode([i]).strip()}({logp:.1f})"
                              for i, logp in zip(ids[1:-1], found.tolist())))


def show_similar(text, among, model, dtype, tokenizer, marks, most):
    if len(among) == 1 and Path(among[0]).is_file():
        among = [line for line in Path(among[0]).read_text(encoding="utf-8").splitlines() if line.strip()]
    found = embed(model, [text, *among], tokenizer, marks, dtype)
    alike = found[1:] @ found[0]
    for i in alike.argsort(descending=True)[:most].tolist():
        print(f"  {alike[i]:6.3f}  {among[i]}")


def main():
    parser = flags.Parser("Let BERT fill in blanks, score sentences, or rank them by likeness.")
    parser.add_argument("texts", nargs="*", metavar="text", help="a text with [MASK] in it; with --score, sentences;"
                        " with --similar, what the others are compared with")
    parser.add_argument("-p", "--prompt", help="the same (default: The [MASK] returns a new list.)")
    parser.add_argument("-l", "--load_model", metavar="PATH", help="checkpoint; folder, minilm, bert-base-uncased or"
                        " owner/name of real weights (default: checkpoints/05_bert_mlm.pt)")
    parser.add_argument("--show", type=int, default=5, help="how many to show")
    parser.add_argument("--score", action="store_true", help="how likely each token is where it alone is hidden")
    parser.add_argument("--similar", nargs="+", metavar="SENTENCE", help="rank these, or the lines of a file")
    flags.machine_flags(parser, seed=False)
    args = parser.parse()
    flags.check_ranges(args, show=1)
    if args.score and args.similar:
        raise UserError("--score and --similar are different questions: ask one")
    args.load_model = args.load_model or str(ensure_model())
    texts = args.texts + [args.prompt] * (args.prompt is not None) or ["The [MASK] returns a new list."]
    if len(texts) > 1 and not args.score:
        raise UserError("more than one text: put quotation marks around it")
    model, dtype, tokenizer = load_model(args.load_model, args)
    if not args.similar and not model.config.masked_head:
        raise UserError(f"{args.load_model} has no head that guesses: ask it with --similar, or train it first with"
                        f" 05_bert_mlm/train.py -l {args.load_model}")
    marks = Marks.of(tokenizer)
    if args.similar:
        show_similar(texts[0], args.similar, model, dtype, tokenizer, marks, args.show)
    elif args.score:
        show_scores(texts, model, dtype, tokenizer, marks)
    else:
        show_blanks(texts[0], model, dtype, tokenizer, marks, args.show)


if __name__ == "__main__":
    flags.run(main)
