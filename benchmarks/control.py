"""Whether training is training: the same round with its real rewards, and with rewards shuffled within each group.

    python benchmarks/control.py --seed 0

Compared are the candidates on the gate suite, before the decision. About three minutes a run on two cores.
"""

import argparse
from pathlib import Path

import common

from dpe_ray.rounds.store import RunFolder
from dpe_ray.types import Comparison


def main() -> None:
    """Run one round twice and print both changes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/control"))
    args = parser.parse_args()
    rows = {}
    for name, permute in (("real", "false"), ("permuted", "true")):
        folder = args.runs / f"{name}-{args.seed}"
        common.run(folder, f"seed={args.seed}", "rounds=1", "final=[]", f"train.permute_rewards={permute}")
        comparison = RunFolder(folder).round(1).load_json("comparison", Comparison)
        rows[name] = {"change": comparison.macro_change, "low": comparison.macro_low, "high": comparison.macro_high}
    header = ("rewards", "macro change", "95 % low", "95 % high")
    print(common.table(header, [(name, *row.values()) for name, row in rows.items()]))
    print(f"wrote {common.write('control', {'seed': args.seed, 'rows': rows})}")


if __name__ == "__main__":
    main()
