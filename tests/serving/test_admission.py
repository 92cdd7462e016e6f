"""What a client and all of them together may use."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from include.serving.admission import Admission
from include.serving.keys import Client
from include.serving.wire import RequestError

SHOP, BANK = Client("shop", (b"s",)), Client("bank", (b"b",))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def refusal(admission: Admission, client: Client) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught, admission.pass_through(client):
        pass
    return caught.value.status, caught.value.headers["retry-after"]


def test_a_client_over_its_rate_waits_and_the_others_do_not() -> None:
    clock = Clock()
    admission = Admission(10, rate=4, clock=clock)
    for _ in range(4):
        with admission.pass_through(SHOP):
            pass
    assert refusal(admission, SHOP) == (429, "1")
    with admission.pass_through(BANK):
        pass
    clock.now += 0.5
    for _ in range(2):
        with admission.pass_through(SHOP):
            pass
    assert refusal(admission, SHOP) == (429, "1")
    clock.now += 1000  # what was not used is not kept beyond a second's worth
    for _ in range(4):
        with admission.pass_through(SHOP):
            pass
    assert refusal(admission, SHOP) == (429, "1")
    assert admission.refused_clients == {"shop": 3}


def test_a_slow_rate_says_when_to_come_back() -> None:
    admission = Admission(10, clock=Clock())
    slow = Client("slow", (b"s",), rate=0.1)
    with admission.pass_through(slow):
        pass
    assert refusal(admission, slow) == (429, "10")


def test_a_client_has_only_so_many_requests_under_way() -> None:
    admission = Admission(10, under_way=2)
    with ExitStack() as stack:
        stack.enter_context(admission.pass_through(SHOP))
        stack.enter_context(admission.pass_through(SHOP))
        assert refusal(admission, SHOP) == (429, "1")
        stack.enter_context(admission.pass_through(Client("bank", (b"b",), under_way=5)))
        assert admission.under_way == 3
    assert admission.under_way == 0
    with admission.pass_through(SHOP):
        pass


def test_a_full_gateway_refuses_everyone_and_a_failed_request_leaves_its_place() -> None:
    admission = Admission(1)
    with pytest.raises(ValueError, match="broken"), admission.pass_through(SHOP):
        assert refusal(admission, BANK) == (503, "1")
        raise ValueError("broken")
    assert (admission.under_way, admission.refused_full) == (0, 1)


def test_addresses_without_keys_are_limited_and_forgotten() -> None:
    clock = Clock()
    admission = Admission(10, rate=1, clock=clock)
    with admission.pass_through(Client("10.0.0.1")):
        pass
    assert refusal(admission, Client("10.0.0.1"))[0] == 429
    for number in range(10_000):
        with admission.pass_through(Client(f"client-{number}")):
            pass
    with admission.pass_through(Client("10.0.0.1")):
        pass
    assert admission.refused_clients == {"": 1}
