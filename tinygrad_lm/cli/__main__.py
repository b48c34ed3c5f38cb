"""`python -m tinygrad_lm.cli` is the command `tinygrad-lm`."""
from . import main

main()
