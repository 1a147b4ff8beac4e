"""What a page of the dashboard says, for tests."""

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
