"""The reward model: its loss, where it reads, and that it learns what is preferred."""

import json
import math
from dataclasses import asdict

import checkpoint
import pytest
import reward
import torch
import torch.nn.functional as F
import trainer
from batches import in_turn
from chat_template import teach_to_talk
from flags import UserError
from for_tests import refuse, succeed
from gpt import FAMILIES, GPT, GPTConfig
from tokenizer import CharTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz QA:\n.?"


def tiny(family="llama", vocab_size=40, seed=0):
    torch.manual_seed(seed)
    return GPT(GPTConfig(vocab_size, 32, 64, 4, 2, **FAMILIES[family]))


def as_pairs(answers):
    """What a batch of the script has: both parts (B, 2, T)."""
    return tuple(part.view(len(answers) // 2, 2, -1) for part in reward.padded(answers))


def test_the_loss_is_that_of_bradley_and_terry():
    """The chance that the first of two wins is e^a / (e^a + e^b): Bradley and Terry 1952."""
    model = reward.RewardModel(tiny()).eval()
    model.head.weight.data.normal_()
    answers = [[1, 2, 3, 9], [1, 2, 9], [4, 9], [4, 5, 5, 5, 5, 9]]
    rewards = reward.scores_of(model, answers).double()
    first = rewards.view(2, 2).softmax(1)[:, 0]
    _, loss = model(*as_pairs(answers))
    assert loss.item() == pytest.approx(-first.log().mean().item(), rel=1e-5), "is the difference the wrong way round?"


def test_without_a_preference_the_loss_is_ln_2():
    model = reward.RewardModel(tiny()).eval()
    answers = [[1, 2, 3, 9], [1, 9]]
    assert model(*as_pairs(answers))[1].item() == pytest.approx(math.log(2), abs=0.1), "the head begins too large"
    model.head.weight.data.zero_()
    assert model(*as_pairs(answers))[1].item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_loss_is_that_of_trl():
    """RewardTrainer.compute_loss of trl 1.16.0 without a margin: its numbers for these rewards."""
    model = reward.RewardModel(tiny())
    given = torch.tensor([1.5, -0.5, 0.25, 1.0])
    model.rewards = lambda ids, ends: given
    expected = (math.log1p(math.exp(-2.0)) + math.log1p(math.exp(0.75))) / 2
    assert model(*as_pairs([[1], [2], [3], [4]]))[1].item() == pytest.approx(expected, rel=1e-6)
    chosen, rejected = given.view(2, 2).T
    assert expected == pytest.approx(-F.logsigmoid(chosen - rejected).mean().item(), rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_reward(family):
    model = reward.RewardModel(tiny(family)).eval()
    model.head.weight.data.normal_()
    short, long = [1, 2, 9], [3, 4, 5, 6, 7, 8, 9]
    alone = torch.cat([reward.scores_of(model, [answer]) for answer in (short, long)])
    assert torch.allclose(reward.scores_of(model, [short, long]), alone, atol=1e-5), "was padding read, or read at?"
    ids, ends = reward.padded([short, long])
    ids[0, len(short) :] = 33
    with torch.no_grad():
        assert torch.allclose(model.rewards(ids, ends), alone, atol=1e-5), "what stands in the padding was seen"
    last = model.head(model.model.hidden(torch.tensor([short]))[:, -1])[0]
    assert torch.allclose(alone[:1], last, atol=1e-5), "it must be read at the token that ends the answer"


def test_an_answer_is_read_to_its_end_token():
    tokenizer = teach_to_talk(CharTokenizer(LETTERS))
    messages = [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "me."}]
    ids = reward.until_end(messages, tokenizer)
    assert ids[-1] == tokenizer.end_of_text and tokenizer.decode(ids[:-1]).endswith("who?\n\nA:\nme.")
    # a template that ends questions, too, and writes more behind an end, as most do
    template = "{% for each in messages %}{{ each.content + '<|endoftext|>' + '\\n' }}{% endfor %}"
    chat = tokenizer.with_chat_template(template)
    assert tokenizer.decode(reward.until_end(messages, chat)) == "who?<|endoftext|>\nme.<|endoftext|>"


def test_pairs_come_in_turn():
    turn = in_turn(10, 4, seed=3)
    seen = [i for step in range(5) for i in turn(step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10)) and seen[:10] != seen[10:]
    assert [turn(3), turn(0)] == [in_turn(10, 4, seed=3)(step) for step in (3, 0)]
    assert in_turn(10, 10, seed=4)(0) != in_turn(10, 10, seed=3)(0)


def test_a_batch_in_parts_has_the_gradient_of_the_whole():
    answers = [[1, 2, 3, 9], [1, 9], [4, 5, 9], [4, 6, 7, 8, 9], [2, 9], [3, 9]]
    gradients = []
    for rows in (1, 3):
        model = reward.RewardModel(tiny())
        trainer.add_gradients(model, as_pairs(answers), rows, torch.float32)
        gradients.append(torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-6)


# ---- the script ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that knows nothing, and preferences: answers with an x in them are better."""
    folder = tmp_path_factory.mktemp("reward")
    tokenizer = CharTokenizer(LETTERS)
    model = tiny(vocab_size=tokenizer.vocab_size)
    checkpoint.save(folder / "lm.pt", "gpt", model=model.state_dict(), config=asdict(model.config),
                    tokenizer=tokenizer.state(), run={"steps": 1}, progress={"finished": True, "step": 1})
    words = [a + b for a in "abcdefgh" for b in "ijklmnop"]
    records = [{"prompt": f"{word}?", "chosen": f"{word} x.", "rejected": f"{word} {word[0]}."} for word in words]
    (folder / "p.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--lora", "--rank", 4)])
def test_the_script_learns_what_is_preferred(folder, words):
    save = folder / f"reward{len(words)}.pt"
    out = succeed("04_training/reward.py", "-l", folder / "lm.pt", "-d", folder / "p.jsonl", "-s", save,
                  8, 32, 1e-2, 40, 0.0, *words)
    assert "without a preference, ln 2, is 0.693" in out and "all        100.0%" in out, out
    model, tokenizer = reward.load_reward_model(save)
    talks = [[{"role": "user", "content": "zu?"}, {"role": "assistant", "content": said}] for said in ("x.", "u.")]
    good, bad = reward.scores_of(model, [reward.until_end(talk, tokenizer) for talk in talks])
    assert good > bad + 1, "is the head saved with the rest?"
    assert "is a reward model" in refuse("04_training/infer.py", "--chat", "-l", save)
    half = checkpoint.load(save)
    half["progress"] |= {"finished": False, "step": 39}
    checkpoint.save(save, **{name: value for name, value in half.items() if name != "format"})
    assert "going on with the unfinished run" in succeed("04_training/reward.py", "-l", save), "with its own model"


@pytest.mark.slow
def test_the_script_refuses_in_one_line(folder):
    words = "04_training/reward.py", "-l", folder / "lm.pt", "-s", "no_save", "-d"
    assert "has no preferences" in refuse(*words, "gsm8k")
    assert "give a larger one" in refuse(*words, folder / "p.jsonl", 8, 4)
    assert "learning_rate -1.0 must be more than 0" in refuse(*words, folder / "p.jsonl", 8, 32, -1.0)
    with pytest.raises(UserError, match="is no reward model: train one with"):
        reward.load_reward_model(folder / "lm.pt")


@pytest.mark.slow
def test_help():
    assert "what 04_training/sft.py made" in " ".join(succeed("04_training/reward.py", "-h").split())
