"""A mistake planted in a kernel: the .cu files once more in another folder, one of them spoiled, launched from there."""
import shutil
from contextlib import contextmanager

import pytest

from tinygrad_lm import kernels


@contextmanager
def planted(folder, file, right, wrong):
    """with planted(tmp_path, "softmax.cu", "i < n", "i <= n"): launches take the spoiled file."""
    for path in kernels.FOLDER.glob("*.cu*"):
        shutil.copy(path, folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert right in text, "the line to spoil is gone: spoil its successor"
    if right:
        (folder / file).write_text(text.replace(right, wrong), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "FOLDER", folder)
        patch.setattr(kernels, "OPTIONS", ("-std=c++17", f"-I{folder}"))
        kernels.function.cache_clear()
        try:
            yield
        finally:
            kernels.function.cache_clear()
