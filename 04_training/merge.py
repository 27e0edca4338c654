"""Turn a checkpoint of adapters into a whole one, or any checkpoint into a folder that transformers loads.

    python 04_training/merge.py lora.pt merged.pt
    python 04_training/merge.py lora.pt my_model/
"""

import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "03_gpt"))
import checkpoint
import flags
from fine_tuning import open_model
from flags import UserError, shown
from lora import merge_into
from pretrained import export, is_pretrained


def main():
    parser = flags.Parser("Merge LoRA's matrices into the model that they were trained for.")
    parser.add_argument("load_model", help="a checkpoint, whole or adapters")
    parser.add_argument("save_model", help="a whole checkpoint, if it ends in .pt; else a folder for transformers")
    args = parser.parse()
    if is_pretrained(args.load_model):
        raise UserError(f"{args.load_model} is whole already: name a checkpoint of this course")
    place = Path(args.save_model)
    if place.suffix in (".safetensors", ".gguf") or place == Path(args.load_model):
        raise UserError(f"{place} must be another path than the checkpoint's: of a .pt, or of a folder")
    if place.suffix != ".pt" and (place.is_file() or place.is_dir() and any(place.iterdir())
                                  and not (place / "config.json").exists()):
        raise UserError(f"{place} is there, and no exported model: name a new folder")
    model, tokenizer, loaded = open_model(args.load_model)
    assert loaded  # it is a checkpoint
    merge_into(model)
    checkpoint.tell_unfinished(loaded, args.load_model)
    if place.suffix == ".pt":
        # without the adapters' optimizer: what is merged begins a new run
        kept = {"run": loaded["run"], "progress": loaded["progress"] | {"finished": True}}
        checkpoint.save(place, "gpt", model=model.state_dict(), config=asdict(model.config),
                        tokenizer=tokenizer.state(), **kept)
    else:
        place.mkdir(parents=True, exist_ok=True)
        export(model, tokenizer, args.save_model)
    print(f"{model.parameter_count():,} parameters, in {shown(args.save_model)}")


if __name__ == "__main__":
    flags.run(main)
