"""PyTorch takes seconds to import: without `-m oracle` these files are not even read."""


def pytest_ignore_collect(collection_path, config):
    return True if "not oracle" in config.option.markexpr else None
