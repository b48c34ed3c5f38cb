"""The proofs: property tests first, a file an idea. `pytest` runs them; docs/proof.md says what they prove."""
