"""The training step for a GPU, launched as one: see graph.py."""
import warnings
from math import isfinite

import numpy as np

from ..backend import array_module, beside
from ..functional import check_ids
from ..graph import CannotRecord, Recording
from ..kernels import fits_kernel
from ..modes import anomaly_detection
from ..optim import AdamW, adamw_rates, finite, update_kernels
from .step import check_loss, train_step

WARM_UP = 2                             # steps launched plainly first: they compile the kernels and make the constants


def captured_step(model, opt, *, max_norm=1.0):
    """step(idx, targets, documents=None) -> loss: `train_step`, whose launches are recorded at the third call and replayed
    from then on.

    It launches plainly, as train_step does, wherever a replay would be wrong: on the CPU, for a batch of another shape
    than the recorded one, for packed rows, while dropout draws, in float64, for another optimizer than AdamW, and where
    recording fails (a warning says why). The learning rate may change from step to step. A parameter must not be frozen or
    thawed in between.
    """
    return CapturedStep(model, opt, max_norm)


class CapturedStep:
    def __init__(self, model, opt, max_norm):
        self.model, self.opt, self.max_norm = model, opt, max_norm
        self.calls, self.replay = 0, None
        self.possible = type(opt) is AdamW and fits_kernel(opt.flat)

    def __call__(self, idx, targets, documents=None):
        if documents is not None:
            return train_step(self.model, self.opt, idx, targets, documents, max_norm=self.max_norm)
        self.calls += 1
        if self.possible and not self.replay and self.calls > WARM_UP and self.fits():
            self.record(idx, targets)
        if not self.replay or not self.fits() or not idx.shape == self.idx.shape == targets.shape or nothing_counts(targets):
            return train_step(self.model, self.opt, idx, targets, max_norm=self.max_norm)
        check_ids_on_host(idx, targets, self.model.config.vocab_size)
        self.idx[...], self.targets[...] = beside(idx, self.idx), beside(targets, self.targets)
        self.numbers[...] = beside(self.numbers_of_this_step(), self.numbers)
        loss, norm = self.replay().get().tolist()                          # the one time that the host waits
        return self.judge(loss, norm)

    def numbers_of_this_step(self):
        """What a recording would freeze, float32 (5,): AdamW's rates, 1 / loss_scale, loss_scale."""
        scale = self.opt.loss_scale
        return np.array([*adamw_rates(self.opt, self.opt.step_count + 1), 1 / scale, scale], np.float32)

    def judge(self, loss, norm):
        """What train_step says of a loss and a norm that are not finite, where nothing has moved."""
        check_loss(loss, self.opt)
        self.opt.grad_norm = norm
        if self.opt.scaler:
            self.opt.scaler.update(isfinite(norm))
        else:
            finite(norm)
        self.opt.step_count += isfinite(norm)
        return loss

    def fits(self):
        """Nothing in the model draws or checks now what a recording would repeat or could not do."""
        return not anomaly_detection() and not any(m.training and getattr(m, "p", 0) for m in self.model.modules())

    def record(self, idx, targets):
        opt, xp = self.opt, array_module(self.opt.flat)
        self.idx, self.targets = xp.array(beside(idx, opt.flat)), xp.array(beside(targets, opt.flat))
        self.numbers = xp.zeros(5, np.float32)
        try:
            self.replay = Recording(self.work)
        except CannotRecord as why:
            self.possible = False
            warnings.warn(f"the training step could not be recorded, and is launched plainly: {why}", stacklevel=3)

    def work(self):
        """Forward, backward, clip, update; reads nothing. -> (loss, norm of the gradient) as one array (2,)"""
        opt, xp = self.opt, array_module(self.opt.flat)
        opt.zero_grad()
        loss = self.model.loss(self.idx, self.targets)
        loss.backward(self.numbers[4:].reshape(()))                        # the loss's scale
        norm = update_kernels(opt, self.max_norm, self.numbers[:4], loss.data)
        return xp.concatenate([loss.data.reshape(1), norm])


def nothing_counts(targets):
    """Is there no target to learn from? Asked of arrays on the host only."""
    return array_module(targets) is np and not (targets != -100).any()


def check_ids_on_host(idx, targets, size):
    if array_module(idx) is np:
        check_ids(idx, size, "token id")
    if array_module(targets) is np:
        check_ids(np.where(targets == -100, 0, targets), size, "target")
