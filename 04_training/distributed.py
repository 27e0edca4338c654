"""Training in several processes, on one machine or many, which torchrun starts: each takes its share of every batch.

    torchrun --nproc_per_node 2 04_training/train.py
    torchrun --nnodes 2 --node_rank 0 --master_addr 10.0.0.1 --nproc_per_node 8 04_training/train.py

Every process holds the whole model; after each backward pass their gradients are averaged, so that all take the same
step. Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", section 3.
"""

import contextlib
import os
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import choose_device


@contextlib.contextmanager
def processes(device):
    """Join the others if torchrun started this process; yields how many there are. Only the first one prints.

    `device` is what --device says: NCCL is for CUDA, and where there is none, as on Windows, Gloo takes its place.
    """
    if "RANK" not in os.environ:
        yield 1
        return
    cuda = choose_device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda and distributed.is_nccl_available() else "gloo")
    if distributed.get_rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (as long as the process lives)
    try:
        yield distributed.get_world_size()
    finally:
        distributed.destroy_process_group()


def share_gradients(model):
    """The model as `trainer.train` calls it, so that gradients are averaged if there are several processes."""
    return DistributedDataParallel(model) if distributed.is_initialized() else model
