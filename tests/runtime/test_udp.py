import pytest
import trio
import trio.testing

from relaymesh.runtime.udp import BATCH, RECEIVE_BYTES, UdpPort


async def test_a_batch_is_bounded_and_nothing_is_lost():
    with_port = UdpPort.open("127.0.0.1", 0)
    sender = UdpPort.open("127.0.0.1", 0)
    sender.send_batch([(bytes([k % 256]), with_port.address) for k in range(BATCH + 5)])
    with trio.fail_after(5):
        first = await with_port.receive()
        second = await with_port.receive()
    assert len(first) == BATCH
    assert [data[0] for data, _ in first + second] == [k % 256 for k in range(BATCH + 5)]
    assert {address for _, address in first} == {sender.address}
    sender.close()
    with_port.close()


async def test_a_datagram_that_is_too_long_is_seen_to_be_so():
    port, sender = UdpPort.open("127.0.0.1", 0), UdpPort.open("127.0.0.1", 0)
    sender.send_batch([(bytes(9000), port.address)])
    with trio.fail_after(5):
        [(data, _)] = await port.receive()
    assert len(data) == RECEIVE_BYTES
    port.close()
    sender.close()


async def test_a_send_that_fails_is_counted_and_the_rest_goes_out():
    port, sender = UdpPort.open("127.0.0.1", 0), UdpPort.open("127.0.0.1", 0)
    sender.send_batch([(bytes(70_000), port.address), (b"x", port.address)])
    assert sender.send_failures == 1
    with trio.fail_after(5):
        assert [data for data, _ in await port.receive()] == [b"x"]
    port.close()
    sender.close()


async def test_closing_wakes_the_receiver():
    port = UdpPort.open("127.0.0.1", 0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await port.receive()

            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            port.close()


async def test_a_port_in_use_is_an_os_error():
    first = UdpPort.open("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        UdpPort.open(*first.address)
    first.close()


@pytest.mark.parametrize("host", ["fe80::1%\0", "fe80::1%é" + "x" * 80, "nowhere.invalid", "::1"])
async def test_an_invalid_host_costs_its_own_datagram_only(host):
    port, sender = UdpPort.open("127.0.0.1", 0), UdpPort.open("127.0.0.1", 0)
    sender.send_batch([(b"x", (host, 9)), (b"y", port.address)])
    assert sender.send_failures == 1
    with trio.fail_after(5):
        assert [data for data, _ in await port.receive()] == [b"y"]
    port.close()
    sender.close()
