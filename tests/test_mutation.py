"""The mutation check itself works: it finds the mutants, notices one, and leaves the unbroken code in peace."""
import subprocess
import sys
from pathlib import Path

CODE = """
from tests import mutation
mutation.SUITE = ("test_ops_fused",)
target = "softmax.softmax_backward"
_, code = next(mutation.mutants(mutation.targets()[target]))
print(len(mutation.targets()) > 50, mutation.noticed(target), mutation.noticed(target, code))
"""


def test_mutation_check():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.split() == ["True", "None", "test_ops_fused::test_softmax"], done.stdout + done.stderr
