"""Teach a function to a KAN and to an MLP of about as many parameters, and compare what they learned and what it cost.

    python 06_kan/train.py
    python 06_kan/train.py -d product --optimizer adamw --grid 5 10
    python 06_kan/train.py -d measured.csv -s mine.pt           # a first line x1,...,xn,y, and numbers
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
import flags
from approximate import main

if __name__ == "__main__":
    flags.run(main)
