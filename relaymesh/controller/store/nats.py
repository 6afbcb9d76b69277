"""The store that several controllers share: a key-value bucket of NATS JetStream.

A bucket ``b`` is a stream ``KV_b`` whose subjects ``$KV.b.<key>`` keep their last
message each; its sequence number is the revision. What is asked of it:

    set        a message to the subject, answered by its sequence number
    CAS        the same with the header Nats-Expected-Last-Subject-Sequence
    delete     an empty message with the header KV-Operation: DEL
    get        $JS.API.STREAM.MSG.GET, which the stream's leader answers: never stale
    watch      an ephemeral consumer that pushes the last message of each subject, then new ones

Source: NATS ADR-8 (JetStream based key-value stores) and the JetStream API
reference; works from server 2.9 on. A bucket says nothing when somebody falls silent:
observers have timers of their own (:mod:`relaymesh.controller.lease`).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from relaymesh.controller.store import nats_wire as wire
from relaymesh.controller.store.interface import (
    NEW,
    Change,
    Changes,
    Conflict,
    Entry,
    StoreDown,
    check_key,
    check_value,
)
from relaymesh.controller.store.nats_client import NatsClient
from relaymesh.controller.store.watching import Watchers

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_OPERATION = "KV-Operation"
_WRONG_SEQUENCE = 10071  # JetStream's error codes
_NO_MESSAGE = 10037
_NO_STREAM = 10059
_NANOSECONDS = 1_000_000_000
HEARTBEAT_S = 1  # of a watch's consumer; three missed, and it is made anew
WATCHED_MESSAGES = 4096  # not read yet; more, and the watch begins anew
RETRY_S = 0.5  # a watch that cannot be made


class NatsStore:
    """A bucket, made where there is none."""

    exclusive = False

    def __init__(self, client: NatsClient, bucket: str, replicas: int = 1) -> None:
        self._client = client
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._replicas = replicas
        self._made = False
        self._watchers = Watchers()

    async def get(self, key: str) -> Entry | None:
        entry = await self._last(check_key(key))
        return None if entry is None or entry.value is None else Entry(key, entry.value, entry.revision)

    async def put(self, key: str, value: bytes) -> int:
        return await self._set(check_key(key), check_value(value), {})

    async def cas(self, key: str, value: bytes, revision: int) -> int:
        check_key(key)
        check_value(value)
        try:
            return await self._set(key, value, {_EXPECTED: str(revision)})
        except Conflict:
            if revision != NEW:
                raise
        deleted = await self._last(key)
        if deleted is None or deleted.value is not None:
            raise Conflict(key)
        # What was deleted does not exist, but its subject has a last message.
        return await self._set(key, value, {_EXPECTED: str(deleted.revision)})

    async def delete(self, key: str) -> None:
        await self._set(check_key(key), b"", {_OPERATION: "DEL"})

    @asynccontextmanager
    async def watch(self, prefix: str) -> AsyncIterator[Changes]:
        async def nothing() -> Iterable[Change]:
            await self._make_bucket()
            return ()

        async with self._watchers.watching(prefix, nothing) as changes, trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_watching)
            yield changes
            nursery.cancel_scope.cancel()

    # --- keys ----------------------------------------------------------------------------------

    async def _set(self, key: str, value: bytes, headers: dict[str, str]) -> int:
        await self._make_bucket()
        answer = _read(await self._client.request(self._prefix + key, value, headers=headers))
        _check(answer, key)
        return _integer(answer.get("seq"))

    async def _last(self, key: str) -> Change | None:
        await self._make_bucket()
        answer = await self._api("STREAM.MSG.GET", {"last_by_subj": self._prefix + key})
        if _error_code(answer) == _NO_MESSAGE:
            return None
        _check(answer, key)
        message = answer.get("message")
        if not isinstance(message, dict):
            raise StoreDown("an answer without a message")
        is_gone = _OPERATION.encode() in _decode(message.get("hdrs"))
        return Change(key, None if is_gone else _decode(message.get("data")), _integer(message.get("seq")))

    async def _make_bucket(self) -> None:
        """See that the bucket is there: once, and again when the server says it is not."""
        if self._made:
            return
        answer = await self._api("STREAM.INFO", None)
        if _error_code(answer) == _NO_STREAM:
            config = {
                "name": self._stream,
                "subjects": [self._prefix + ">"],
                "max_msgs_per_subject": 1,
                "max_bytes": -1,
                "storage": "file",
                "num_replicas": self._replicas,
                "discard": "new",
                "allow_rollup_hdrs": True,
                "deny_delete": True,
                "allow_direct": True,
            }
            answer = await self._api("STREAM.CREATE", config)  # who else makes the same is no conflict
        _check(answer, self._stream)
        self._made = True

    async def _api(self, name: str, body: object) -> dict[str, Any]:
        payload = b"" if body is None else json.dumps(body).encode()
        answer = _read(await self._client.request(f"$JS.API.{name}.{self._stream}", payload))
        if _error_code(answer) == _NO_STREAM:
            self._made = False
        return answer

    # --- watching ------------------------------------------------------------------------------

    async def _keep_watching(self) -> None:
        """A consumer for as long as it is heard, then the next; never returns."""
        while True:
            try:
                await self._client.connected.wait()
                await self._watch_once()
            except StoreDown:
                await trio.sleep(RETRY_S)

    async def _watch_once(self) -> None:
        send, receive = trio.open_memory_channel[wire.Message](WATCHED_MESSAGES)
        inbox = self._client.new_inbox()

        def arrived(message: wire.Message) -> None:
            try:
                send.send_nowait(message)
            except (trio.WouldBlock, trio.BrokenResourceError):
                pass  # the gap in the consumer's numbers tells

        sid = self._client.subscribe(inbox, arrived)
        try:
            with send, receive:
                await self._make_consumer(inbox)
                await self._read_consumer(receive)
        finally:
            self._client.unsubscribe(sid)

    async def _make_consumer(self, inbox: str) -> None:
        await self._make_bucket()
        config = {
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "filter_subject": self._prefix + ">",
            "idle_heartbeat": HEARTBEAT_S * _NANOSECONDS,
            "inactive_threshold": 10 * _NANOSECONDS,
            "mem_storage": True,
        }
        _check(await self._api("CONSUMER.CREATE", {"stream_name": self._stream, "config": config}), "watch")

    async def _read_consumer(self, messages: trio.MemoryReceiveChannel[wire.Message]) -> None:
        """Until one is missing, or nothing is heard; then a new consumer says the last of each key again."""
        expected = 1
        while True:
            with trio.move_on_after(3 * HEARTBEAT_S) as waiting:
                message = await messages.receive()
            if waiting.cancelled_caught:
                return
            if message.status is not None:
                continue
            revision, number = _numbers(message.reply)
            if number != expected:
                return
            expected += 1
            value = None if _OPERATION in message.headers else message.payload
            key = message.subject.removeprefix(self._prefix)
            self._watchers.notify(Change(key, value, revision))


def _numbers(reply: str) -> tuple[int, int]:
    """The sequence numbers of the stream and of the consumer, as the reply subject of a delivery says them.

    $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<stream's>.<consumer's>.<time>.<pending>[.…]
    """
    parts = reply.split(".")
    at = 5 if len(parts) == 9 else 7
    if len(parts) < at + 2:
        raise StoreDown("a delivery without numbers")
    return _integer(parts[at]), _integer(parts[at + 1])


def _read(message: wire.Message) -> dict[str, Any]:
    try:
        answer = json.loads(message.payload)
    except (ValueError, RecursionError):
        raise StoreDown("an answer that is no JSON") from None
    if not isinstance(answer, dict):
        raise StoreDown("an answer that is no object")
    return answer


def _error_code(answer: dict[str, Any]) -> int | None:
    error = answer.get("error")
    return error.get("err_code", 0) if isinstance(error, dict) else None


def _check(answer: dict[str, Any], what: str) -> None:
    code = _error_code(answer)
    if code == _WRONG_SEQUENCE:
        raise Conflict(what)
    if code is not None:
        raise StoreDown(f"{what}: {answer['error'].get('description', 'an error')}")


def _integer(value: object) -> int:
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        raise StoreDown("an answer without a number") from None


def _decode(data: object) -> bytes:
    try:
        return base64.b64decode(data) if isinstance(data, str) else b""
    except binascii.Error:
        raise StoreDown("an answer that is no base64") from None
