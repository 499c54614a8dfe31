"""No webhook leads into the operator's network, however its address is written."""

from collections.abc import Sequence

import pytest

from app.errors import InvalidInputError
from app.jobs.destinations import Destination, DestinationRules, ForbiddenAddressError, is_public

PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "2001:0:a9fe:a9fe::",
    "fc00::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]


def rules(*addresses: str, trusted: Sequence[str] = ()) -> DestinationRules:
    async def look_up(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return DestinationRules(trusted, look_up)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "ftp://example.com/",
        "//example.com/",
        "example.com",
        "https://",
        "https:///path",
        "https://user:password@example.com/",
        "https://example.com@127.0.0.1/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://169.254.169.254/latest/meta-data",
        "https://example.com:99999/",
        "https://exam ple.com/",
        "https://example.com/\r\nHost: other",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/" + "a" * 2000,
        "https://ex\u0430mple.com/",
        "https://example..com/",
        "https://example.com./",
        "https://-example.com/",
        f"https://{'a' * 64}.com/",
        f"https://{'a.' * 126}aa/",
    ],
)
def test_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        rules().parse(url)
    assert caught.value.pointer == "/webhook_url"


def test_url_is_taken_apart() -> None:
    found = rules().parse("https://Example.com:8443/hook?id=1#part")
    assert found == Destination("https", "example.com", 8443, "/hook?id=1")
    assert found.authority == "example.com:8443"
    assert rules().parse("https://example.com").authority == "example.com"


@pytest.mark.parametrize("host", ["a", f"{'a' * 63}.com", "a." * 126 + "a", "a-b.c_d"])
def test_name_of_short_labels_is_taken(host: str) -> None:
    assert rules().parse(f"https://{host}/").host == host


async def test_name_goes_to_the_address_that_was_checked() -> None:
    destination = rules().parse("https://example.com/")
    assert await rules(*PUBLIC).resolve(destination) == PUBLIC[0]


@pytest.mark.parametrize("address", PRIVATE)
async def test_name_with_a_private_address_among_others_is_refused(address: str) -> None:
    destination = rules().parse("https://example.com/")
    with pytest.raises(ForbiddenAddressError):
        await rules(PUBLIC[0], address).resolve(destination)


async def test_trusted_host_may_be_private_and_plain() -> None:
    trusting = rules("10.0.0.7", trusted=("Orders.internal",))
    destination = trusting.parse("http://orders.internal/hook")
    assert await trusting.resolve(destination) == "10.0.0.7"


def test_trust_is_for_that_host_alone() -> None:
    with pytest.raises(InvalidInputError):
        rules(trusted=("orders.internal",)).parse("http://other.orders.internal/")
