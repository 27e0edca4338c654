"""Every command that a README prints is run in a copy of the repository, made small by words behind its own.

A later flag wins over an earlier one, and what is printed stays in the run: a flag that has another name in its script
than in the README turns the test red. So does a new command for which nothing here says how it is made small.
"""

import re
import sys

import pytest
from for_tests import ROOT, shared, tiktoken_vocabularies
from local_site import Site, links
from small_course import Course

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="missing hardware: no POSIX shell")

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("[cd0]*/*.md"))]
INDENTED = re.compile(r"^    ((?:python|torchrun|curl|pip|git|source|bash|vllm) (?:.*\\\n)*.*)$", re.MULTILINE)
INLINE = re.compile(r"`(python\s+(?:0|data/)[^`]+|torchrun\s[^`]+)`")
SECONDS, SLOW_SECONDS = 120, 3600  # in which a command must end, on a machine that is busy

# part of a command: words behind those that are printed; the longest part that a command has counts
WORDS = {
    "01_tokenizer/train.py": "--vocab_size 400",
    "01_tokenizer/infer.py": "",
    "01_tokenizer/prepare.py": "",
    "01_tokenizer/scrape.py": "--max_pages 5",
    "01_tokenizer/benchmark.py": "--rounds 1",
    "02_attention/train.py": "16 4 16 3e-3 2 2 1",
    "02_attention/infer.py": "",
    "02_attention/score_scale.py": "",
    "02_attention/induction.py": "--steps 1 --seeds 1",
    "02_attention/translation.py": "--steps 1",
    "02_attention/context.py": "--seconds 0.01 --seeds 1",
    "02_attention/benchmark.py": "--rounds 1",
    "03_gpt/lm_model.py": "-n 5 16 4 16 3e-3 2 2 2",
    "03_gpt/train.py": "-t char 16 4 16 3e-3 2 2 2",
    "03_gpt/infer.py": "-n 2",
    "03_gpt/infer.py -l smollm2 -p \"The capital of France is Paris": "-p Paris -l checkpoints/03_gpt.pt",
    "03_gpt/variants.py": "--seeds 1",
    "03_gpt/depth.py": "16 2 16 3e-3 1 2",
    "03_gpt/benchmark.py": "--rounds 1",
    "04_training/train.py": "--ngram_rows 64 16 2 256 3e-3 2 2 2",
    "04_training/infer.py": "-n 2",
    "04_training/perplexity.py": "--limit 1000",
    "04_training/ngram.py": "--ngram 3",
    "04_training/cost.py": "",
    "04_training/merge.py": "",
    "04_training/sft.py": "2 256 1e-3 2",
    "04_training/dpo.py": "2 256 1e-3 2",
    "04_training/reward.py": "2 256 1e-3 2",
    "04_training/ppo.py": "--rollout 4 --max_new_tokens 8 2 256 1e-3 2",
    "04_training/distill.py": "16 2 64 1e-3 2",
    "04_training/judge.py": "--limit 2",
    "04_training/benchmark.py": "--only optimizers --rounds 1",
    "05_bert_mlm/train.py": "32 4 128 1e-2 2 2 1",
    "05_bert_mlm/infer.py": "",
    "05_bert_mlm/docs_questions.py": "",
    "05_bert_mlm/question_answering.py": "4 1e-3 2",
    "05_bert_mlm/benchmark.py": "--rounds 1",
    "05_bert_mlm/two_sides.py": "32 4 32 1e-2 2 2 1",
    "05_bert_mlm/mask_rates.py": "--rates 0.2 --seconds 0.01 32 4 32 1e-2 2 1",
    "06_kan/by_hand.py": "",
    "06_kan/train.py -l": "--points 200 -- 0.01 10",
    "06_kan/train.py": "--starts 1 --trials 1 --grid 3 --points 200 -- 0.01 10",
    "06_kan/infer.py": "",
    "06_kan/answer.py": "-d product --seeds 1 --seconds 0.1",
    "06_kan/scaling_law.py": "--grid 5 10 20 --seeds 1 --points 200",
    "06_kan/kan_in_gpt.py": "--seeds 1 -- 16 4 16 3e-3 2 2 1",
    "07_cot/train.py": "",
    "07_cot/infer.py": "-n 8 --limit 2",
    "07_cot/infer.py --eval gsm8k": "-l talker.pt -n 8 --limit 2",
    "07_cot/infer.py --endpoint": "-n 8 --limit 2 --results asked.jsonl",
    "07_cot/infer.py \"How many legs": "-l talker.pt -n 8",
    "07_cot/with_and_without.py": "-d arithmetic --seeds 1 --limit 4",
    "07_cot/vote_curve.py": "--seeds 1337 --limit 4 --samples 2",
    "07_cot/self_training_table.py": "--methods grpo --seeds 1 --numbers 4 1e-3 2",
    "07_cot/ablation.py": "--steps 2 --limit 5 --seeds 3 --compare '' '--slips 0.1'",
    "07_cot/ablation.py -d knights": "--steps 2 --limit 5 --seeds 3",
    "07_cot/router_curve.py": "--seeds 1337 --limit 4 --sequence_steps 1 --on_policy_steps 1",
    "07_cot/comparison.py": "--limit 1 --likelihood_limit 1 --shots 1 -n 4 talker.pt",
    "07_cot/serve.py": "-l talker.pt --port 0",
    "07_cot/synthesize.py": "--target 60",
    "07_cot/synthesize.py -d pydocs --endpoint": "-d short.txt --samples 1 -n 8",
    "07_cot/tasks.py": "",
    "07_cot/benchmark.py": "--rounds 1",
    "07_cot/verifier.py": "",
    "data/corpora.py": "",
    "curl": "",
    "pip install": "--no-index --dry-run",
    "source setup.sh && pytest": "checkpoints/tests/test_flags.py",
}
WORDS |= {f"{path.parent.name}/exercises.py": "" for path in ROOT.glob("0*/exercises.py")}

# command: what is run instead, where words behind it are not enough
INSTEAD = {
    "python lm_model.py -t tiktoken -m o200k_base -l lm.pt -s lm.pt -d my.txt 8 8 4 1e-3 5000 4 3 0.1":
        "python lm_model.py -t tiktoken -m o200k_base -l lm.pt -s lm.pt -d my.txt 8 8 4 1e-3 2 4 3 0.1",
    "python 03_gpt/lm_model.py 128 8 64 3e-3 500": "python 03_gpt/lm_model.py 16 4 16 3e-3 2",
    "python 03_gpt/variants.py": "python 03_gpt/variants.py 16 2 16 3e-3 2 2 1",
    "python 03_gpt/variants.py --only swiglu --only experts --seeds 1337 1338 1339":
        "python 03_gpt/variants.py 16 2 16 3e-3 2 2 1 --only swiglu --only experts --seeds 1337 1338",
    "python 03_gpt/variants.py 128 8 128 2e-3 900 --only swiglu --seeds 1337 1338 1339":
        "python 03_gpt/variants.py 16 2 16 2e-3 2 --only swiglu --seeds 1337 1338",
    "python 04_training/sft.py -l smollm2 --lora -s checkpoints/smollm2_sft.pt 4 256 1e-3 60":
        "python 04_training/sft.py -l checkpoints/04_sft.pt --lora -s checkpoints/smollm2_sft.pt 2 256 1e-3 2",
    "python 04_training/sft.py -l smollm2 --lora -d my.jsonl --show 1":
        "python 04_training/sft.py -l talker.pt --lora -d my.jsonl --show 1",
    "python 04_training/sft.py -l smollm2 --lora -d my.jsonl -s checkpoints/mine.pt 4 256 1e-3 60":
        "python 04_training/sft.py -l talker.pt --lora -d my.jsonl -s checkpoints/mine.pt 2 256 1e-3 2",
    "python 06_kan/train.py --widths 2 5 1 --grid 5 --optimizer adamw --sparsity 0.05 --starts 1"
    " -s checkpoints/06_sparse.pt 0.03 4000":
        "python 06_kan/train.py --widths 2 5 1 --grid 5 --optimizer adamw --sparsity 0.05 --starts 1"
        " -s checkpoints/06_sparse.pt --points 200 0.03 100",
    "python 04_training/judge.py smollm2 checkpoints/smollm2_sft.pt checkpoints/smollm2_dpo.pt"
    " checkpoints/smollm2_ppo.pt --limit 120":
        "python 04_training/judge.py checkpoints/04_sft.pt checkpoints/smollm2_sft.pt checkpoints/smollm2_dpo.pt"
        " checkpoints/smollm2_ppo.pt --limit 2",
}
TALKER = "python 03_gpt/train.py -d pydocs -s talker.pt 8 1 4096 1e-3 1 2 1 0"
MIRROR = "python data/corpora.py gsm8k tinyshakespeare --mirror /media/usb/llm"
# what stands in a command: what is run before it, which makes what it can't do without, or would train for minutes
FIRST = {
    "umb.txt": "python 01_tokenizer/scrape.py https://www.umb.edu/ -o data/scraped/umb.txt --max_pages 500",
    "02_attention/infer": "python 02_attention/train.py",
    "03_gpt/infer": "python 03_gpt/lm_model.py",
    "tinyshakespeare|gsm8k|comparison": MIRROR,
    "gsm8k mmlu|comparison": "python data/corpora.py mmlu --mirror /media/usb/llm",
    "04_training/(infer|perplexity|sft)|/04_training.pt": "python 04_training/train.py",
    "04_training/(dpo|reward|ppo|distill)|04_sft.pt|smollm2_": "python 04_training/sft.py",
    "mine.pt": "python 04_training/sft.py -l smollm2 --lora -d my.jsonl -s checkpoints/mine.pt 4 256 1e-3 60",
    "04_dpo.pt": "python 04_training/dpo.py",
    "04_ppo.pt": "python 04_training/ppo.py",
    "04_distilled.pt": "python 04_training/distill.py",
    "smollm2_sft.pt": "python 04_training/sft.py -l smollm2 --lora -s checkpoints/smollm2_sft.pt 4 256 1e-3 60",
    "judge.py smollm2": "cp checkpoints/smollm2_sft.pt checkpoints/smollm2_dpo.pt",
    "judge.py smollm2 ": "cp checkpoints/smollm2_sft.pt checkpoints/smollm2_ppo.pt",
    "05_bert_mlm/(infer|question_answering)": "python 05_bert_mlm/train.py",
    "question_answering.py --ask": "python 05_bert_mlm/question_answering.py",
    "06_kan/infer": "python 06_kan/train.py",
    "06_sparse.pt": "python 06_kan/train.py --widths 2 5 1 --grid 5 --optimizer adamw --sparsity 0.05 --starts 1"
                    " -s checkpoints/06_sparse.pt 0.03 4000",
    "06_pruned.pt": "python 06_kan/train.py -l checkpoints/06_sparse.pt --prune 0.05 --optimizer lm"
                    " --grid 5 5 10 20 40 80 -s checkpoints/06_pruned.pt",
    "arithmetic_early": "python 07_cot/vote_curve.py",
    "comparison|--eval gsm8k|How many legs|serve.py|my.jsonl": TALKER,
    ":8000/v1": "python 07_cot/serve.py",
}
SLOW = {"01_tokenizer/benchmark.py", "02_attention/benchmark.py", "03_gpt/benchmark.py", "05_bert_mlm/benchmark.py",
        "07_cot/benchmark.py", "07_cot/verifier.py", "setup.sh && ",
        "router_curve.py --distillation", "torchrun --nproc_per_node 2 07_cot", '1-5?" --route'}
COVERED = {
    "torchrun --nproc_per_node 8 04_training/train.py ...":
        "04_training/tests/test_distributed.py::test_two_processes_equal_one_with_twice_the_batch",
    "python lm_model.py -t tiktoken -m o200k_base -l lm.pt -s lm.pt -d my.txt 384 64 256 3e-4 5000 6 6 0.2":
        "03_gpt/tests/test_scripts.py::test_the_reports_second_command_fits_in_6_gb",
    'python 07_cot/infer.py "Bob has 58 pens. Bob loses 17. How many has Bob?" --route -l smollm2':
        "07_cot/tests/test_real_thoughts.py::test_weights_in_a_folder_get_all_pieces",
    'python 07_cot/router_curve.py -l smollm2 --seeds 1337 --limit 30 -o router_smollm2.png':
        "07_cot/tests/test_real_thoughts.py::test_weights_in_a_folder_get_all_pieces",
    "python 06_kan/benchmark.py": "06_kan/tests/test_kan_speed.py::test_the_benchmark_runs_without_a_compiler",
}
NOT_RUN = {
    "git clone <this repository> && cd <its folder>": "there is no address yet; .ci/run clones this folder",
    "vllm serve meta-llama/Meta-Llama-3-8B-Instruct --tensor-parallel-size 4 --port 8000": "it needs four GPUs",
}


def printed_commands():
    """{command: the page that prints it first}, without comments."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for command in [re.sub(r" {2,}# .*", "", each) for each in INDENTED.findall(text)] + INLINE.findall(text):
            found.setdefault(" ".join(command.replace("\\\n", " ").split()), page)
    return found


COMMANDS = printed_commands()


def words_for(command):
    """The words of the longest part that the command has; None if there is no such part."""
    part = max((part for part in WORDS if part in command), key=len, default=None)
    return None if part is None else WORDS[part]


def is_slow(command):
    return any(script in command for script in SLOW)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function: what a command of a README says, made small; what it needs is run before it, and each only once."""
    course = Course(tmp_path_factory.mktemp("course").resolve(), tiktoken_vocabularies(tmp_path_factory.mktemp("bpe")))
    site = Site({"/": links("1") + "one two three", "/1": "four five six"})
    said, there = {}, {"https://www.umb.edu/": site.url, "/media/usb/llm": str(shared("gsm8k").parent)}

    def run(command):
        if command not in said:
            for part, before in FIRST.items():
                if re.search(part, command) and before != command:
                    run(before)
            text = INSTEAD.get(command, f"{command} {words_for(command)}" if command in COMMANDS else command)
            for printed, here in there.items():
                text = text.replace(printed, here)
            if "serve.py" in text:
                said[command], address = course.serve(text)
                there.update(dict.fromkeys(["http://host:8000/v1", "http://127.0.0.1:8000/v1"], address))
            else:
                chapter = COMMANDS[command].parent.name if re.match(r"python \w+\.py", text) else ""
                said[command] = course.run(text, chapter, SLOW_SECONDS if is_slow(command) else SECONDS)
        return said[command]

    yield run
    site.shutdown()
    site.server_close()
    course.end()


def marked(command):
    return pytest.param(command, id=command[:70], marks=[pytest.mark.slow] if is_slow(command) else [])


@pytest.mark.parametrize("command", [marked(each) for each in COMMANDS if each not in {**COVERED, **NOT_RUN}])
def test_a_command_of_a_readme(command, run):
    if command not in INSTEAD and words_for(command) is None:
        pytest.fail(f"{COMMANDS[command].relative_to(ROOT)} prints a new command: {command}\nadd its script to WORDS in"
                    " .ci/test_commands.py, with words that make it take seconds, or the command to INSTEAD, COVERED or"
                    " NOT_RUN")
    assert run(command).strip(), "it says nothing"


def test_the_tables_are_of_commands_that_are_printed():
    printed = "\n".join(COMMANDS)
    for table in (INSTEAD, COVERED, NOT_RUN):
        assert not table.keys() - COMMANDS.keys(), "no README prints this any more"
    assert [part for part in [*WORDS, *SLOW] if part not in printed] == []
    for test in COVERED.values():
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{test} is gone"
