"""Calling code: each line with ``# wrong``, and no other, must be refused, as ``test_typing.py`` sees."""

from __future__ import annotations

from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper, TransmissionResult, ZerobusWrapper


async def with_await(wrapper: ZerobusWrapper, result: TransmissionResult) -> None:
    """The asyncio face."""
    await wrapper.send_batch({"id": [1]})  # wrong
    await wrapper.send_batch(batch=None)  # wrong
    await wrapper.wait_delivered("7")  # wrong
    await wrapper.wait_delivered(result, timeout="1")  # wrong
    await wrapper.flush(1, 2)  # wrong
    wrapper.update_credentials("new")  # wrong
    print(wrapper.flush().lsn)  # wrong
    print(result.lsn + 1)  # wrong
    print(result.state == "stored", wrapper.status()["lanes"])  # wrong
    for lsn in result.lsns:
        print(lsn + 1)  # wrong
    result.lsn = 5  # wrong


def without_await(wrapper: SyncZerobusWrapper) -> None:
    """The other face."""
    wrapper.send_batch({"id": [1]})  # wrong
    wrapper.flush(timeout="1")  # wrong
    with wrapper as entered:
        entered.send(5)  # wrong


def constructors() -> None:
    """Both take the same arguments."""
    ZerobusWrapper("https://host")  # wrong
    ZerobusWrapper("https://host", "a.b.c", "id")  # wrong
    ZerobusWrapper("https://host", "a.b.c", wal_max_byte=5)  # wrong
    ZerobusWrapper("https://host", "a.b.c", durability="never")  # wrong
    SyncZerobusWrapper("https://host")  # wrong
    SyncZerobusWrapper("https://host", "a.b.c", "id")  # wrong
    SyncZerobusWrapper("https://host", "a.b.c", wal_max_byte=5)  # wrong
    SyncZerobusWrapper("https://host", "a.b.c", durability="never")  # wrong
