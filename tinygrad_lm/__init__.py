"""tinygrad_lm: from the probability of a sentence to a chatbot tuned on human preference, in NumPy."""
from . import functional, nn, optim
from .backend import cuda_is_available
from .gradcheck import gradcheck
from .modes import detect_anomaly, no_grad
from .tensor import Tensor

__version__ = "0.1.0"
__all__ = ["Tensor", "no_grad", "detect_anomaly", "gradcheck", "functional", "nn", "optim", "cuda_is_available"]
