"""Look for the likeliest text as a whole: keep the best few beginnings at each step, not only the best one."""

import torch
from evaluation import evaluating
from sampling import Reading, Sampling


@torch.no_grad()
def beam_search(model, prompt, max_new_tokens, beam_count=4, length_penalty=1.0, early_stopping=False, **settings):
    """Continue one prompt (a list of ids) -> up to beam_count pairs (score, new ids), the best first.

    A text's score is its log-probability / length ** length_penalty: above 0 favours long texts. Of `settings`, those
    of Sampling, what ends a text and what looks back at it apply: nothing is drawn. Once beam_count texts have ended
    the search is over: with early_stopping at once; without, when the best beginning, if it ended here, would be no
    better than the worst of them.
    Wu et al. 2016, "Google's Neural Machine Translation System", section 7; the rules for the end are transformers'.
    """
    settings = Sampling(**settings)
    # enough candidates that beam_count go on even if all stop tokens of all beams are among the best
    count = beam_count * (1 + max(1, len(settings.stop_tokens)))
    with evaluating(model):
        reading = Reading(model, [prompt], max_new_tokens)
        beams = [[] for _ in range(beam_count)]  # the new ids of each beginning
        totals = torch.full((beam_count, 1), -torch.inf, device=reading.ids.device)  # and its log-probability
        totals[0] = 0.0  # at first all are the same, so that only one of them counts
        ended = []
        for length in range(1, max_new_tokens + 1):
            logits = reading.next_logits()  # (beam_count, V); at first (1, V)
            if length == 1:
                reading.select([0] * beam_count)
            # log P(text, token) = log P(text) + log P(token | text)
            scores = totals + settings.looking_back(logits.log_softmax(-1), reading.ids, length - 1)
            best, places = scores.flatten().topk(min(count, scores.numel()))
            going_on = []
            for i, (score, place) in enumerate(zip(best.tolist(), places.tolist())):
                row, token = divmod(place, scores.shape[1])
                text = [*beams[row], token]
                if length < max_new_tokens and not settings.ends(text):
                    going_on.append((i, row, text))
                elif i < beam_count and score > -torch.inf:
                    ended.append((score / length**length_penalty, text))
            ended = sorted(ended, key=lambda pair: pair[0], reverse=True)[:beam_count]
            going_on = going_on[:beam_count]
            if not going_on:
                break
            chosen, rows, beams = zip(*going_on)
            totals = best[list(chosen), None]
            no_better = ended and totals[0].item() / length**length_penalty <= ended[-1][0]
            if len(ended) == beam_count and (early_stopping or no_better):
                break
            reading.select(list(rows))
            reading.append(torch.tensor([text[-1] for text in beams], device=logits.device))
    return ended
