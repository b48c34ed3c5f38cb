"""How fast is it here? Training steps, single operations and generation, measured beside PyTorch where it is installed."""
