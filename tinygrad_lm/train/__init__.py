"""The stages of training, each one readable loop a file."""
from .captured import captured_step
from .step import train_step

__all__ = ["captured_step", "train_step"]
