"""The example that steps through a kernel runs, and shows what it says."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_lm import emulator

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not emulator.available(), reason="no C++ compiler")
def test_a_kernel_step_by_step():
    out = subprocess.run([sys.executable, "examples/gpu_kernel_on_cpu.py"], cwd=ROOT, capture_output=True, text=True, check=True,
                         encoding="utf-8", env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}).stdout
    lines = {line[:34].strip(): line[34:].split() for line in out.splitlines()}
    assert lines["before the first barrier"] == ["5.00", "3.00", "5.00", "8.00", "9.00", "9.00", "9.00", "6.00"]
    assert lines["in a register: thread 0 … 7"] == ["3.00", "1.00", "4.00", "1.00", "5.00", "9.00", "2.00", "6.00"]
    assert lines["2 apart"][0] == "2.07" and lines["1 apart"][0] == "3.62"                       # Σ exp(x − 9)
    # shared: 8 threads write; 4, 2, 1 read two and write one; 8 read the largest; 8, and 4, 2, 1 again; 8 read the sum twice
    eight, one = (line for line in out.splitlines() if "global memory: " in line)
    assert "16 reads, 16 writes; shared memory: 52 reads, 30 writes; a thread waited at 9 barriers" in eight
    assert "48 reads, 16 writes; shared memory: 0 reads, 0 writes; a thread waited at 0 barriers" in one
    verdicts = [line for line in out.splitlines() if "with barriers:" in line]
    assert len(verdicts) == 3 and all("with barriers: right" in line for line in verdicts)
    assert any("without: WRONG" in line for line in verdicts)
