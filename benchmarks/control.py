"""Whether training is training: the same round with its real rewards, and with rewards shuffled within each group.

    python benchmarks/control.py --seeds 0 1 2

Compared are the candidates on the gate suite, before the decision: a paired difference per seed, with its interval over
the items. About three minutes a run on two cores, two runs a seed.
"""

import argparse
from pathlib import Path
from statistics import fmean

import common

from dpe_ray.rounds.store import RunFolder
from dpe_ray.types import Comparison

REWARDS = {"real": "false", "permuted": "true"}


def main() -> None:
    """Run one round twice per seed and print all changes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/control"))
    args = parser.parse_args()
    rows = [candidate(seed, name, args.runs) for seed in args.seeds for name in REWARDS]
    print(common.table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    for name in REWARDS:
        print(f"{name}: mean change {fmean(row['change'] for row in rows if row['rewards'] == name):+.3f}")
    print(f"wrote {common.write('control', {'rows': rows})}")


def candidate(seed: int, rewards: str, runs: Path) -> dict[str, object]:
    """Macro change of one round's candidate against the base, with its 95 % interval."""
    folder = runs / f"{rewards}-{seed}"
    common.run(folder, f"seed={seed}", "rounds=1", "final=[]", f"train.permute_rewards={REWARDS[rewards]}")
    comparison = RunFolder(folder).round(1).load_json("comparison", Comparison)
    change, low, high = comparison.macro_change, comparison.macro_low, comparison.macro_high
    return {"seed": seed, "rewards": rewards, "change": change, "low": low, "high": high}


if __name__ == "__main__":
    main()
