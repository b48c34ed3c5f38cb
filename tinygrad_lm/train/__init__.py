"""The stages of training, each one readable loop a file."""
from .step import train_step

__all__ = ["train_step"]
