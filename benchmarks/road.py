"""Does the demo reach what it should? The whole road for several seeds, and each bar with what was measured.

    python -m benchmarks.road                 # seeds 0 1 2, some minutes each
    python -m benchmarks.road --seeds 3 --out runs/road
"""
import argparse
import sys
from pathlib import Path
from time import perf_counter

from tinygrad_lm.train.demo import DemoConfig, run_demo

BARS = (  # name, value from (figures, {method: row}), bar, "at least" or "at most"
    ("obeys after fine-tuning", lambda f, r: f["obey after"], 0.90, ">="),
    ("reward model: held-out pairs, true order", lambda f, r: f["reward accuracy, broad"], 0.77, ">="),
    ("PPO: win rate", lambda f, r: r["PPO"]["win rate"], 0.78, ">="),
    ("PPO: KL", lambda f, r: r["PPO"]["KL"], 3.0, "<="),
    ("PPO: true reward gained", lambda f, r: r["PPO"]["true reward"] - r["fine-tuned"]["true reward"], 1.2, ">="),
    ("PPO ahead of DPO by", lambda f, r: r["PPO"]["win rate"] - r["DPO"]["win rate"], 0.0, ">="),
    ("PPO ahead of the best of 4 by", lambda f, r: r["PPO"]["win rate"] - r["best of 4"]["win rate"], 0.0, ">="),
    ("no KL: learned reward above PPO's by",
     lambda f, r: r["PPO, no KL penalty"]["learned reward"] - r["PPO"]["learned reward"], 0.0, ">="),
    ("no KL: true reward below PPO's by",
     lambda f, r: r["PPO"]["true reward"] - r["PPO, no KL penalty"]["true reward"], 0.0, ">="),
)


def check(results):
    """(name, value, bar, sign, reached) for each bar."""
    rows = {row["method"]: row for row in results.rows}
    values = [(name, value(results.figures, rows), bar, sign) for name, value, bar, sign in BARS]
    return [(name, v, bar, sign, v >= bar if sign == ">=" else v <= bar) for name, v, bar, sign in values]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/road"))
    parser.add_argument("--resume", action="store_true", help="go on behind what is already in --out")
    options = parser.parse_args()
    missed = 0
    for seed in options.seeds:
        began = perf_counter()
        results = run_demo(options.out / str(seed), DemoConfig(), seed=seed, resume=options.resume, show=False,
                           say=lambda line: None)
        print(f"seed {seed}: {perf_counter() - began:.0f} s")
        for name, v, bar, sign, reached in check(results):
            missed += not reached
            print(f"  {'ok    ' if reached else 'MISSED'} {name:<42} {v:7.3f}  ({sign} {bar:g})", flush=True)
        for row in results.rows:
            print("  " + "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{v:<18}" for k, v in row.items()))
    sys.exit(f"{missed} bars missed" if missed else 0)


if __name__ == "__main__":
    main()
