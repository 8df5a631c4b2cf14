"""The pages that are written from the code say what the code says."""

from tests.config_table import PAGE, page


def test_the_page_of_settings_is_the_settings() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.config_table`"
