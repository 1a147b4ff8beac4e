"""What a page of the dashboard says, and a press on it, for tests."""

from typing import Any

from streamlit.testing.v1 import AppTest


def text_of(page: AppTest) -> str:
    """All words of a page; nothing on it is an exception of Streamlit's."""
    assert not page.exception
    kinds: tuple[Any, ...] = (
        *(page.title, page.header, page.markdown, page.caption, page.code),
        *(page.info, page.warning, page.error, page.success),
    )
    return "\n".join(str(one.value) for kind in kinds for one in kind).replace("\\", "")


def numbers(page: AppTest, key: str) -> list[dict[str, object]]:
    """The table of a chart."""
    page.toggle(key=f"table-{key}").set_value(True).run()
    tables = [table.value for table in page.dataframe if "series" in table.value]
    return [dict(row) for _, row in tables[-1].iterrows()]


def press(page: AppTest, label: str) -> AppTest:
    """The page after a press on the one button of that label."""
    (button,) = (button for button in page.button if button.label == label)
    return button.click().run()
