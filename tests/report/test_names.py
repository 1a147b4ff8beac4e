import pytest

from celeba_fl.report.names import name_of


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("macro_f1", "macro F1"),
        ("macro_f1_at_0", "macro F1 at 0"),
        ("accuracy_at_0", "accuracy at 0"),
        ("odd_metric", "odd metric"),
    ],
)
def test_names_for_people(metric: str, said: str) -> None:
    assert name_of(metric) == said
