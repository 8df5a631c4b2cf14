"""The pages that are written from the code say what the code says."""

from tests import guarantees
from tests.config_table import PAGE, page


def test_config_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.config_table`"


def test_guarantees_page_is_current() -> None:
    tests = guarantees.held()
    assert set(guarantees.PROMISES) == set(tests), "a promise without a test, or a mark without a promise"
    assert guarantees.PAGE.read_text() == guarantees.page(), "run `python -m tests.guarantees`"
