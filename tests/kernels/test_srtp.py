"""SRTP both ways for every profile and kernel (libsrtp in two ways, the native one), hostile packets."""

import struct
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaymesh.kernels.srtp_reference import DIRECT_BINDING
from tests.kernels.both import native, reference

KEY_BYTES = {"AEAD_AES_128_GCM": 28, "AEAD_AES_256_GCM": 44, "AES128_CM_SHA1_80": 30}
GCM = "AEAD_AES_128_GCM"
PROFILE_CASES = pytest.mark.parametrize("profile", KEY_BYTES)
over_kernels = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class Kernel:
    """One way to do SRTP: *options* are for the reference only."""

    def __init__(self, module, **options):
        self.SrtpSender = partial(module.SrtpSender, **options)
        self.SrtpReceiver = partial(module.SrtpReceiver, **options)
        self.SrtpFailure = module.SrtpFailure
        self.longest = 1356 if options.get("direct") is False else 1900
        self.too_short = None if options.get("direct") is False else "too short"

    def pair(self, profile=GCM):
        key = key_for(profile)
        return self.SrtpSender(key, profile), self.SrtpReceiver(key, profile)


@pytest.fixture(params=["direct", "session", "native"])
def srtp(request):
    if request.param == "native":
        return Kernel(native("srtp"))
    return Kernel(reference("srtp"), direct=request.param == "direct")


def key_for(profile, first=1):
    return bytes((first + i) & 0xFF for i in range(KEY_BYTES[profile]))


def rtp(sequence=1, ssrc=0x1234, payload=b"payload"):
    return struct.pack("!BBHII", 0x80, 96, sequence, 3000 * sequence, ssrc) + payload


def receiver_report(ssrc=0x1234):
    return struct.pack("!BBHI", 0x80, 201, 1, ssrc)


def test_the_binding_is_where_we_expect_it():
    assert DIRECT_BINDING


@PROFILE_CASES
def test_round_trip(srtp, profile):
    sender, receiver = srtp.pair(profile)
    for sequence in range(1, 20):
        packet = rtp(sequence, payload=bytes([sequence]) * 40 * sequence)
        protected = sender.protect_rtp(packet)
        assert packet[12:] not in protected
        assert receiver.unprotect_rtp(protected) == packet
    report = receiver_report()
    assert receiver.unprotect_rtcp(sender.protect_rtcp(report)) == report


@PROFILE_CASES
def test_all_kernels_give_the_same_bytes(srtp, profile):
    other, _ = Kernel(reference("srtp")).pair(profile)
    sender, _ = srtp.pair(profile)
    for sequence in (1, 2, 2, 40000, 65535, 0, 65530, 5):
        assert sender.protect_rtp(rtp(sequence)) == other.protect_rtp(rtp(sequence))
        assert sender.protect_rtcp(receiver_report()) == other.protect_rtcp(receiver_report())


@PROFILE_CASES
def test_a_changed_byte_is_noticed_and_changes_nothing(srtp, profile):
    sender, receiver = srtp.pair(profile)
    protected = sender.protect_rtp(rtp())
    report = sender.protect_rtcp(receiver_report())
    for at in range(1, len(protected)):
        forged = protected[:at] + bytes([protected[at] ^ 0x10]) + protected[at + 1 :]
        with pytest.raises(srtp.SrtpFailure):
            receiver.unprotect_rtp(forged)
    with pytest.raises(srtp.SrtpFailure):
        receiver.unprotect_rtcp(report[:-1] + bytes([report[-1] ^ 1]))
    assert receiver.unprotect_rtp(protected) == rtp()
    assert receiver.unprotect_rtcp(report) == receiver_report()


def test_a_replay_is_refused(srtp):
    sender, receiver = srtp.pair()
    protected, report = sender.protect_rtp(rtp()), sender.protect_rtcp(receiver_report())
    receiver.unprotect_rtp(protected)
    receiver.unprotect_rtcp(report)
    with pytest.raises(srtp.SrtpFailure):
        receiver.unprotect_rtp(protected)
    with pytest.raises(srtp.SrtpFailure):
        receiver.unprotect_rtcp(report)


def test_reordering_within_the_window_and_beyond(srtp):
    sender, receiver = srtp.pair()
    protected = [sender.protect_rtp(rtp(sequence)) for sequence in range(1, 1400)]
    receiver.unprotect_rtp(protected[0])
    receiver.unprotect_rtp(protected[-1])
    assert receiver.unprotect_rtp(protected[-1000]) == rtp(400)
    with pytest.raises(srtp.SrtpFailure, match="too old"):
        receiver.unprotect_rtp(protected[1])


def test_a_packet_may_be_sent_twice(srtp):
    sender, _ = srtp.pair()
    assert sender.protect_rtp(rtp()) == sender.protect_rtp(rtp())


def test_the_keys_of_another_session_do_not_open_it(srtp):
    sender, _ = srtp.pair()
    stranger = srtp.SrtpReceiver(key_for(GCM, first=2), GCM)
    with pytest.raises(srtp.SrtpFailure, match="authentication"):
        stranger.unprotect_rtp(sender.protect_rtp(rtp()))


def test_how_long_a_packet_may_be(srtp):
    longest = srtp.longest
    sender, receiver = srtp.pair()
    packet = rtp(payload=bytes(longest - 12))
    assert receiver.unprotect_rtp(sender.protect_rtp(packet)) == packet
    with pytest.raises(srtp.SrtpFailure, match="too long"):
        sender.protect_rtp(packet + b"\0")
    with pytest.raises(srtp.SrtpFailure, match="too long"):
        sender.protect_rtcp(receiver_report() + bytes(longest))
    with pytest.raises(srtp.SrtpFailure, match="too long"):
        receiver.unprotect_rtp(rtp(payload=bytes(3000)))
    with pytest.raises(srtp.SrtpFailure, match="too long"):
        receiver.unprotect_rtcp(receiver_report() + bytes(3000))


def test_packets_without_a_whole_header(srtp):
    sender, receiver = srtp.pair()
    for operation, shortest in (
        (sender.protect_rtp, 12),
        (receiver.unprotect_rtp, 12),
        (sender.protect_rtcp, 8),
        (receiver.unprotect_rtcp, 8),
    ):
        for size in range(shortest):
            with pytest.raises(srtp.SrtpFailure, match=srtp.too_short):
                operation(rtp()[:size])


def test_a_peer_cannot_make_streams_without_end(srtp):
    sender, receiver = srtp.pair()
    for ssrc in range(256):
        receiver.unprotect_rtp(sender.protect_rtp(rtp(ssrc=ssrc)))
    with pytest.raises(srtp.SrtpFailure, match="SSRC"):
        receiver.unprotect_rtp(sender.protect_rtp(rtp(ssrc=9999)))
    with pytest.raises(srtp.SrtpFailure, match="SSRC"):
        receiver.unprotect_rtcp(sender.protect_rtcp(receiver_report(ssrc=9999)))
    assert receiver.unprotect_rtp(sender.protect_rtp(rtp(2, ssrc=7))) == rtp(2, ssrc=7)


def test_forged_ssrcs_do_not_count(srtp):
    sender, receiver = srtp.pair()
    for ssrc in range(300):
        with pytest.raises(srtp.SrtpFailure, match="authentication"):
            receiver.unprotect_rtp(rtp(ssrc=ssrc, payload=bytes(40)))
    assert receiver.unprotect_rtp(sender.protect_rtp(rtp())) == rtp()


@PROFILE_CASES
@over_kernels
@given(
    data=st.binary(max_size=120), prefix=st.sampled_from([b"", rtp(), receiver_report(), b"\x9f", b"\xff"])
)
def test_no_bytes_escape(srtp, profile, data, prefix):
    sender, receiver = srtp.pair(profile)
    packet = prefix + data
    for operation in (receiver.unprotect_rtp, receiver.unprotect_rtcp):
        with pytest.raises(srtp.SrtpFailure):
            operation(packet)
    for operation in (sender.protect_rtp, sender.protect_rtcp):
        try:
            assert len(operation(packet)) > len(packet)
        except srtp.SrtpFailure:
            pass
    assert receiver.unprotect_rtp(sender.protect_rtp(rtp(77))) == rtp(77)
