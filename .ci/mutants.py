"""Break one line at a time in a copy of the repository: every fault must turn a test red.

    python .ci/mutants.py           # all of them
    python .ci/mutants.py mask      # those whose name contains "mask"
"""

import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forked
import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTEST, SECONDS = str(Path(pytest.__file__).with_name("__main__.py")), 600

# name: (file, the line as it is, the line as a tired author might write it, a test that must see it)
MUTANTS = {
    "scale by the embedding size": (
        "02_attention/formulas.py",
        "scores = q @ k.transpose(-2, -1) / math.sqrt(head_size)",
        "scores = q @ k.transpose(-2, -1) / math.sqrt(head_size * q.shape[1])",
        "02_attention/tests/test_attention.py::test_many_heads_are_a_list_of_single_heads",
    ),
    "mask missing": (
        "02_attention/attend.py",
        "dropout_p=dropout, is_causal=True, enable_gqa=gqa)",
        "dropout_p=dropout, enable_gqa=gqa)",
        "03_gpt/tests/test_gpt.py::test_logits_and_gradients_equal_transformers",
    ),
    "erf for tanh GELU": (
        "03_gpt/blocks.py",
        '"gelu": lambda x: F.gelu(x, approximate="tanh"),',
        '"gelu": lambda x: F.gelu(x),',
        "03_gpt/tests/test_gpt.py::test_logits_and_gradients_equal_transformers",
    ),
    "labels shifted by none": (
        "03_gpt/trainer.py",
        "torch.from_numpy(pieces[:, 1:])",
        "torch.from_numpy(pieces[:, :-1])",
        "03_gpt/tests/test_trainer.py::test_batches_depend_on_seed_and_step_only_and_targets_are_one_token_on",
    ),
    "counts not decremented": (
        "01_tokenizer/bpe_plain.py",
        "counts[pair] -= occurrences[index]",
        "pass",
        "01_tokenizer/tests/test_bpe.py::test_counts_in_place_equal_a_recount_after_every_merge",
    ),
    "a window one too wide": (
        "02_attention/attend.py",
        "visible = visible & (queries - keys < window)",
        "visible = visible & (queries - keys <= window)",
        "02_attention/tests/test_formulas.py::test_who_may_look_at_whom",
    ),
    "positions that count the padding": (
        "02_attention/key_value_cache.py",
        "return (places - self.padding[:, None]).clamp(min=0)",
        "return places.expand(len(self.padding), -1)",
        "02_attention/tests/test_key_value_cache.py::test_learned_positions_count_from_behind_the_padding",
    ),
    "scale by the latent vector": (
        "02_attention/latent_attention.py",
        "scores = scores / math.sqrt(q.shape[-1] + rotary_q.shape[-1])",
        "scores = scores / math.sqrt(latent_q.shape[-1] + rotary_q.shape[-1])",
        "02_attention/tests/test_latent_attention.py::test_absorbed_equals_plain",
    ),
    "padding counts as a word": (
        "02_attention/translation.py",
        "mask = (words != PADDING)[:, None, None]",
        "mask = (words != -1)[:, None, None]",
        "02_attention/tests/test_experiments.py::test_a_short_sentence_is_translated_as_if_alone",
    ),
    "every GGUF is interleaved": (
        "03_gpt/weight_layouts.py",
        'interleaved=family == "llama"',
        "interleaved=True",
        "03_gpt/tests/test_gguf.py::test_a_gguf",
    ),
    "the bias of balance weighs": (
        "03_gpt/experts.py",
        "weights = scores.gather(-1, chosen)",
        "weights = (scores + self.bias).gather(-1, chosen)",
        "03_gpt/tests/test_experts.py::test_equals_deepseek_v3",
    ),
    "gate and inner numbers exchanged": (
        "03_gpt/fast_decode.py",
        "gate, inner = inner.chunk(2, dim=-1)",
        "inner, gate = inner.chunk(2, dim=-1)",
        "03_gpt/tests/test_fast_decode.py::test_each_step_equals_the_models_own",
    ),
    "n-grams in any order": (
        "03_gpt/ngram_embedding.py",
        "key = key * (self.vocab_size + 1) + earlier",
        "key = key + earlier",
        "03_gpt/tests/test_ngram_embedding.py::test_collisions_are_rare",
    ),
    "a step of nothing but momentum": (
        "04_training/optimizers.py",
        "torch.stack(torch._foreach_lerp(gradients, means, momentum))",
        "torch.stack(means)",
        "04_training/tests/test_optimizers.py::test_muon_equals_torchs",
    ),
    "documents that see the one before": (
        "04_training/batches.py",
        "mask = (document[:, :, None] == document[:, None, :])[:, None]",
        "mask = (document[:, :, None] >= document[:, None, :])[:, None]",
        "04_training/tests/test_batches.py::test_a_piece_that_begins_within_a_document_counts_from_its_first_token",
    ),
    "wrong drafts are remembered": (
        "04_training/multi_token.py",
        "layer.length -= 1",
        "layer.length -= 0",
        "04_training/tests/test_multi_token.py::test_wrong_drafts_are_forgotten",
    ),
    "runs merged twice": (
        "01_tokenizer/token_array.py",
        "places = places[(np.arange(len(places)) - start) % 2 == 0]",
        "places = places[:]",
        "01_tokenizer/tests/test_bpe.py::test_counts_in_place_equal_a_recount_after_every_merge",
    ),
    "spaces of another kind": (
        "01_tokenizer/word_patterns.py",
        r'r"\s": r"\t-\r "',
        r'r"\s": r"\t\n\r "',
        "01_tokenizer/tests/test_tokenizer.py::test_words_are_cut_as_tiktoken_cuts_them",
    ),
    "the last merge first": (
        "01_tokenizer/bpe_encode.py",
        "(first := min(waiting)) < NEVER",
        "(first := max((w for w in waiting if w < NEVER), default=NEVER)) < NEVER",
        "01_tokenizer/tests/test_encode.py::test_three_ways_of_merging_give_the_same_ids",
    ),
    "robots.txt by its first rule": (
        "01_tokenizer/robot_rules.py",
        "return max(fitting, default=(0, True))[1]",
        "return fitting[0][1] if fitting else True",
        "01_tokenizer/tests/test_web_page.py::test_robots_txt_is_read_as_rfc_9309_says",
    ),
    "the end of an answer not learned": (
        "04_training/chat_template.py",
        "[at <= last for at in range(len(answer))]",
        "[at < last for at in range(len(answer))]",
        "04_training/tests/test_chat_template.py::test_the_loss_counts_answers_and_the_token_that_ends_each",
    ),
    "packed examples that see each other": (
        "04_training/packing.py",
        "(number[:, :, None] == number[:, None, :])[:, None]",
        "(number[:, :, None] >= number[:, None, :])[:, None]",
        "04_training/tests/test_packing.py::test_a_packed_row_written_out",
    ),
    "IPO of sums, not of means": (
        "04_training/dpo.py",
        'return (said - reference) / length if self.kind == "ipo" else said - reference',
        "return said - reference",
        "04_training/tests/test_dpo.py::test_losses_are_those_of_trl",
    ),
    "rewards read behind the end": (
        "04_training/reward.py",
        "pad_rows([[-100] * (len(answer) - 1) + [answer[-1]] for answer in answers], -100)",
        "pad_rows([[-100] * (max(map(len, answers)) - 1) + [answer[-1]] for answer in answers], -100)",
        "04_training/tests/test_reward.py::test_padding_changes_no_reward",
    ),
    "advantages without lambda": (
        "04_training/rollouts.py",
        "gamma * smoothing * after",
        "gamma * after",
        "04_training/tests/test_ppo.py::test_advantages_are_the_sum_of_equation_16",
    ),
    "distilled by T, not by its square": (
        "04_training/distill.py",
        "temperature**2 * divergence",
        "temperature * divergence",
        "04_training/tests/test_distill.py::test_temperature_squared_times_divergence_has_the_known_values",
    ),
    "every hidden token is [MASK]": (
        "05_bert_mlm/masking.py",
        "np.where(chosen & (fate < 0.8), marks.mask, ids)",
        "np.where(chosen, marks.mask, ids)",
        "05_bert_mlm/tests/test_masking.py::test_statistics_are_those_of_hugging_faces_collator",
    ),
    "BERT with tanh GELU": (
        "05_bert_mlm/bert_model.py",
        'feed_forward: str = "exact_gelu"',
        'feed_forward: str = "gelu"',
        "05_bert_mlm/tests/test_bert_model.py::test_exact_gelu",
    ),
    "pairs that see each other": (
        "05_bert_mlm/sentence_pairs.py",
        "(number[:, :, None] == number[:, None, :])[:, None]",
        "(number[:, :, None] >= number[:, None, :])[:, None]",
        "05_bert_mlm/tests/test_sentence_pairs.py::test_a_packed_row",
    ),
    "the shortest match first": (
        "05_bert_mlm/wordpiece.py",
        "end = len(word) if len(word) <= LONGEST_WORD else start",
        "end = start + 1 if len(word) <= LONGEST_WORD else start",
        "05_bert_mlm/tests/test_wordpiece.py::test_it_equals_hugging_faces_on_random_unicode",
    ),
    "answers that stand in the question": (
        "05_bert_mlm/answer_spans.py",
        "allowed[b, each.begin : T - 1] = True",
        "allowed[b, 1 : T - 1] = True",
        "05_bert_mlm/tests/test_question_answering.py::test_a_batch",
    ),
    "a spline that falls where it should rise": (
        "06_kan/splines.py",
        "rising = (x - left) * share",
        "rising = (right - x) * share",
        "06_kan/tests/test_kan_layer.py::test_bases_equal_scipy_on_any_grid",
    ),
    "the gradient of another layer's weights": (
        "06_kan/mlp.py",
        "d_weights.insert(0, d_sum.T @ inputs[i])",
        "d_weights.append(d_sum.T @ inputs[i])",
        "06_kan/tests/test_mlp.py::test_both_passes_equal_autograd",
    ),
    "a LoRA that begins at random": (
        "04_training/lora.py",
        "self.B = nn.Parameter(torch.zeros(out_size, peft.rank, device=device))",
        "self.B = nn.Parameter(torch.randn(out_size, peft.rank, device=device))",
        "04_training/tests/test_lora.py::test_at_first_nothing_changes_and_only_the_added_learns",
    ),
    "a step of Levenberg-Marquardt that is kept though it was worse": (
        "06_kan/least_squares.py",
        "    torch.nn.utils.vector_to_parameters(vector, parameters)\n",
        "    torch.nn.utils.vector_to_parameters(tried, parameters)\n",
        "06_kan/tests/test_least_squares.py::test_each_step_is_told_and_may_be_the_last",
    ),
    "a judge that forgives what a step claimed": (
        "07_cot/family.py",
        "wanted = thinker.send(step)",
        "wanted = thinker.send(wanted)",
        "07_cot/tests/test_tasks.py::test_a_broken_step_is_marked_and_those_that_go_on_from_it_are_right",
    ),
    "a chain learned one token late": (
        "07_cot/problem_batches.py",
        "torch.tensor(question + answer), len(question) - 1",
        "torch.tensor(question + answer), len(question)",
        "07_cot/tests/test_training.py::test_only_what_the_model_writes_is_a_target",
    ),
    "a tool that changes what the model thought": (
        "07_cot/chains.py",
        "super().looking_back(logits, ids, new).clone()",
        "super().looking_back(logits, ids, new)",
        "07_cot/tests/test_chains.py::test_the_calculator_fills_in",
    ),
    "samples that are put back": (
        "07_cot/metrics.py",
        "1 - math.comb(n - c, k) / math.comb(n, k)",
        "1 - (1 - c / n) ** k",
        "07_cot/tests/test_metrics.py::test_pass_at_k",
    ),
    "samples of a server that are all the same": (
        "07_cot/endpoint.py",
        "(request.seed + number) % 2**63",
        "request.seed",
        "07_cot/tests/test_endpoint.py::test_samples",
    ),
    "what a model wrote as HTML": (
        "07_cot/thought_tree_page.py",
        'return escape("".join(',
        'return str("".join(',
        "07_cot/tests/test_thought_tree_page.py::test_no_word_of_a_model_becomes_html",
    ),
    "a router that reads what stands behind a text": (
        "07_cot/router.py",
        "[state[len(row) - 1] for row, state",
        "[state[-1] for row, state",
        "07_cot/tests/test_thoughts.py::test_the_state_is_that_of_the_last_token",
    ),
    "near duplicates by another estimate": (
        "07_cot/seen_questions.py",
        "return float((one == other).mean())",
        "return float((one <= other).mean())",
        "07_cot/tests/test_seen_questions.py::test_estimates_are_the_exact_resemblance",
    ),
    "a memory of tokens that a text does not have": (
        "07_cot/likelihood.py",
        "shared = min(common(self.known, *rows), min(",
        "shared = min(len(self.known), min(",
        "07_cot/tests/test_likelihood.py::test_memory_and_batches_change_nothing",
    ),
    "features rounded before the closed form": (
        "06_kan/splines.py",
        "places = (x - first) / step\n",
        "places = ((x - first) / step).to(dtype)\n",
        "06_kan/tests/test_kan_speed.py::test_a_place_in_a_cell_is_not_rounded",
    ),
    "constants that are lost with the edges that gave them": (
        "06_kan/kan_tools.py",
        "] += constant[:, None]",
        "] += 0.0",
        "06_kan/tests/test_kan_tools.py::test_pruning_silences_edges_that_give_nothing",
    ),
}


def passes(tests, file=None, line="", fault=""):
    """Whether tests pass in a copy of the repository, in which a file has the fault instead of the line."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "course"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "prepared", "*.pt", "__pycache__"))
        if file:
            text = (copy / file).read_text(encoding="utf-8")
            if text.count(line) != 1:
                raise ValueError(f"{file} has {text.count(line)} times the line {line!r}: mend .ci/mutants.py")
            (copy / file).write_text(text.replace(line, fault), encoding="utf-8")
        shared = os.environ.get("SHARED_DATA", str(ROOT.parent / "shared" / "data"))
        said = Path(folder) / "said"
        said.touch()
        status = forked.run([PYTEST, "-x", "-m", "", *tests], copy, os.devnull, said,
                            {"SHARED_DATA": shared, "OMP_NUM_THREADS": "1"}, SECONDS)
        if status not in (0, 1):
            raise ValueError(f"pytest did not run: {said.read_text(encoding='utf-8')[-2000:]}")
    return status == 0


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = {name: mutant for name, mutant in MUTANTS.items() if wanted in name}
    survivors = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faultless = pool.submit(passes, sorted({tests for *_, tests in chosen.values()}))
        lives = pool.map(lambda mutant: passes([mutant[3]], *mutant[:3]), chosen.values())
        for name, lives_on in zip(chosen, lives):
            print(f"{'NOT NOTICED' if lives_on else 'caught'}: {name}", flush=True)
            survivors += [name] * lives_on
    if not faultless.result():
        sys.exit("a test fails without any fault")
    if survivors:
        sys.exit(f"{len(survivors)} faults turned no test red")


if __name__ == "__main__":
    main()
