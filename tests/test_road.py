"""The demo at its full size reaches what it should: the bars of the whole road, for one seed."""
import pytest

from benchmarks.road import check
from tinygrad_lm.train.demo import DemoConfig, run_demo


@pytest.mark.slow
def test_the_bars_of_the_road(tmp_path):
    results = run_demo(tmp_path / "demo", DemoConfig(), seed=0, show=False, say=lambda line: None)
    missed = [(name, value, bar) for name, value, bar, _, reached in check(results) if not reached]
    assert not missed
