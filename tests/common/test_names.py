import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.common.names import check_name, client_name


@pytest.mark.parametrize("name", ["0", "hospital-a", "Krankenhaus Köln 3", "a" * 100, "北京", "."])
def test_names_of_people_and_places(name: str) -> None:
    assert check_name("site", name) == name


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ({"partition-id": 3, "num-partitions": 5}, "3"),
        ({"partition-id": 3, "site": "Ulm"}, "Ulm"),
        ({"site": 7}, "7"),
    ],
)
def test_name_of_a_client(node, name):
    assert client_name(node) == name


def test_a_client_without_a_name():
    with pytest.raises(InputError, match="--node-config 'partition-id=0 num-partitions=2'"):
        client_name({"num-partitions": 5})


@pytest.mark.parametrize("name", ["a,b", " a", "", "=a", "@a", "a" * 101])
def test_a_name_that_no_list_could_hold_is_refused(name):
    with pytest.raises(
        InputError, match=f"site = '{name}': a client's name has 1 to 100 printable"
    ):
        client_name({"site": name})
