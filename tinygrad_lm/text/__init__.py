"""Text and tokens: tokenizers, batches, and the data of the road."""
