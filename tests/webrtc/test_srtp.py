"""SRTP both ways for every profile by the kernel that serves, and hostile packets.

The kernels themselves, one against the other: tests/kernels/test_srtp.py.
"""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import SrtpError
from relaymesh.webrtc.srtp import PROFILES, SrtpReceiver, SrtpSender

PROFILE_CASES = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)


def key_for(profile, first=1):
    return bytes((first + i) & 0xFF for i in range(profile.key_bytes + profile.salt_bytes))


def pair(profile=PROFILES[0]):
    key = key_for(profile)
    return SrtpSender(key, profile), SrtpReceiver(key, profile)


def rtp(sequence=1, ssrc=0x1234, payload=b"payload"):
    return struct.pack("!BBHII", 0x80, 96, sequence, 3000 * sequence, ssrc) + payload


def receiver_report(ssrc=0x1234):
    return struct.pack("!BBHI", 0x80, 201, 1, ssrc)


def test_the_order_of_preference():
    assert [profile.name for profile in PROFILES] == [
        "AEAD_AES_128_GCM",
        "AEAD_AES_256_GCM",
        "AES128_CM_SHA1_80",
    ]


@PROFILE_CASES
def test_round_trip(profile):
    sender, receiver = pair(profile)
    for sequence in range(1, 20):
        packet = rtp(sequence, payload=bytes([sequence]) * 40 * sequence)
        protected = sender.protect_rtp(packet)
        assert packet[12:] not in protected
        assert receiver.unprotect_rtp(protected) == packet
    report = receiver_report()
    assert receiver.unprotect_rtcp(sender.protect_rtcp(report)) == report


@PROFILE_CASES
def test_a_changed_byte_is_noticed_and_changes_nothing(profile):
    sender, receiver = pair(profile)
    protected = sender.protect_rtp(rtp())
    report = sender.protect_rtcp(receiver_report())
    for at in range(1, len(protected)):
        forged = protected[:at] + bytes([protected[at] ^ 0x10]) + protected[at + 1 :]
        with pytest.raises(SrtpError):
            receiver.unprotect_rtp(forged)
    with pytest.raises(SrtpError):
        receiver.unprotect_rtcp(report[:-1] + bytes([report[-1] ^ 1]))
    assert receiver.unprotect_rtp(protected) == rtp()
    assert receiver.unprotect_rtcp(report) == receiver_report()


def test_a_replay_is_refused():
    sender, receiver = pair()
    protected, report = sender.protect_rtp(rtp()), sender.protect_rtcp(receiver_report())
    receiver.unprotect_rtp(protected)
    receiver.unprotect_rtcp(report)
    with pytest.raises(SrtpError):
        receiver.unprotect_rtp(protected)
    with pytest.raises(SrtpError):
        receiver.unprotect_rtcp(report)


def test_reordering_within_the_window_and_beyond():
    sender, receiver = pair()
    protected = [sender.protect_rtp(rtp(sequence)) for sequence in range(1, 1400)]
    receiver.unprotect_rtp(protected[0])
    receiver.unprotect_rtp(protected[-1])
    assert receiver.unprotect_rtp(protected[-1000]) == rtp(400)
    with pytest.raises(SrtpError, match="too old"):
        receiver.unprotect_rtp(protected[1])


def test_a_packet_may_be_sent_twice():
    sender, _ = pair()
    assert sender.protect_rtp(rtp()) == sender.protect_rtp(rtp())


def test_the_keys_of_another_session_do_not_open_it():
    sender, _ = pair()
    stranger = SrtpReceiver(key_for(PROFILES[0], first=2), PROFILES[0])
    with pytest.raises(SrtpError, match="authentication"):
        stranger.unprotect_rtp(sender.protect_rtp(rtp()))


def test_how_long_a_packet_may_be():
    longest = 1900
    sender, receiver = pair()
    packet = rtp(payload=bytes(longest - 12))
    assert receiver.unprotect_rtp(sender.protect_rtp(packet)) == packet
    with pytest.raises(SrtpError, match="too long"):
        sender.protect_rtp(packet + b"\0")
    with pytest.raises(SrtpError, match="too long"):
        sender.protect_rtcp(receiver_report() + bytes(longest))
    with pytest.raises(SrtpError, match="too long"):
        receiver.unprotect_rtp(rtp(payload=bytes(3000)))
    with pytest.raises(SrtpError, match="too long"):
        receiver.unprotect_rtcp(receiver_report() + bytes(3000))


def test_packets_without_a_whole_header():
    sender, receiver = pair()
    for operation, shortest in (
        (sender.protect_rtp, 12),
        (receiver.unprotect_rtp, 12),
        (sender.protect_rtcp, 8),
        (receiver.unprotect_rtcp, 8),
    ):
        for size in range(shortest):
            with pytest.raises(SrtpError, match="too short"):
                operation(rtp()[:size])


def test_a_peer_cannot_make_streams_without_end():
    sender, receiver = pair()
    for ssrc in range(256):
        receiver.unprotect_rtp(sender.protect_rtp(rtp(ssrc=ssrc)))
    with pytest.raises(SrtpError, match="SSRC"):
        receiver.unprotect_rtp(sender.protect_rtp(rtp(ssrc=9999)))
    with pytest.raises(SrtpError, match="SSRC"):
        receiver.unprotect_rtcp(sender.protect_rtcp(receiver_report(ssrc=9999)))
    assert receiver.unprotect_rtp(sender.protect_rtp(rtp(2, ssrc=7))) == rtp(2, ssrc=7)


def test_forged_ssrcs_do_not_count():
    sender, receiver = pair()
    for ssrc in range(300):
        with pytest.raises(SrtpError, match="authentication"):
            receiver.unprotect_rtp(rtp(ssrc=ssrc, payload=bytes(40)))
    assert receiver.unprotect_rtp(sender.protect_rtp(rtp())) == rtp()


@PROFILE_CASES
@given(
    data=st.binary(max_size=120), prefix=st.sampled_from([b"", rtp(), receiver_report(), b"\x9f", b"\xff"])
)
def test_no_bytes_escape(profile, data, prefix):
    sender, receiver = pair(profile)
    packet = prefix + data
    for operation in (receiver.unprotect_rtp, receiver.unprotect_rtcp):
        with pytest.raises(SrtpError):
            operation(packet)
    for operation in (sender.protect_rtp, sender.protect_rtcp):
        try:
            assert len(operation(packet)) > len(packet)
        except SrtpError:
            pass
    assert receiver.unprotect_rtp(sender.protect_rtp(rtp(77))) == rtp(77)
