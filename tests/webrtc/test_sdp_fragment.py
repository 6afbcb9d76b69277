"""ICE fragments: what trickles, what restarts, and what is neither."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import NegotiationError, SdpError
from relaymesh.webrtc.negotiation import OFFERS_AT_ONCE, Negotiation
from relaymesh.webrtc.sdp import parse_offer
from relaymesh.webrtc.sdp_fragment import build_fragment, parse_fragment
from tests.webrtc.test_negotiation import agreed, audio

# As in RFC 9725 §4.3.2, for documentation.
TRICKLE = """\
a=group:BUNDLE a\r
m=audio 9 UDP/TLS/RTP/SAVPF 111\r
a=mid:a\r
a=ice-ufrag:abcd\r
a=ice-pwd:pppppppppppppppppppppp\r
a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag abcd network-id 1\r
a=end-of-candidates\r
"""
RESTART = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n"
CHROMIUM = Path(__file__).parents[1] / "vectors" / "sdp" / "chromium-whip.sdp"


def test_new_credentials_are_a_restart_and_the_known_ones_are_not():
    negotiation = agreed(audio())
    assert not negotiation.handle_fragment(TRICKLE, 1.0)
    assert not negotiation.handle_fragment("a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n", 1.0)
    assert negotiation.handle_fragment(RESTART, 1.0)
    assert not negotiation.handle_fragment(RESTART, 1.0)
    assert (negotiation.state, negotiation.version) == ("stable", 1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a=ice-ufrag:efgh\r\n", "syntax"),
        ("a=ice-ufrag:efgh\r\na=ice-pwd:short\r\n", "syntax"),
        ("nonsense", "syntax"),
        (TRICKLE.replace("ufrag:abcd\r\na=ice-pwd", "ufrag:efgh\r\na=ice-pwd"), "change"),
    ],
)
def test_a_bad_fragment_changes_nothing(text, kind):
    negotiation = agreed(audio())
    with pytest.raises(NegotiationError) as caught:
        negotiation.handle_fragment(text, 1.0)
    assert (caught.value.kind, negotiation.state) == (kind, "stable")
    assert not negotiation.handle_fragment(TRICKLE, 1.0)


def test_no_fragment_before_the_first_offer():
    with pytest.raises(NegotiationError) as caught:
        Negotiation(1, 0.0).handle_fragment(RESTART, 0.0)
    assert caught.value.kind == "state"


def test_fragments_are_counted_against_the_rate():
    negotiation = agreed(audio())
    for _ in range(OFFERS_AT_ONCE - 1):
        negotiation.handle_fragment(TRICKLE, 0.0)
    with pytest.raises(NegotiationError) as caught:
        negotiation.handle_fragment(TRICKLE, 0.0)
    assert caught.value.kind == "rate"


def test_what_is_built_can_be_read():
    section = parse_offer(CHROMIUM.read_bytes().decode()).media[0]
    addresses = [("192.0.2.1", 4000), ("2001:db8::1", 4000)]
    text = build_fragment(section, ufrag="ours", password="o" * 24, addresses=addresses)
    assert parse_fragment(text) == ("ours", "o" * 24)
    assert text.startswith("a=ice-lite\r\nm=audio 9 ")
    assert text.count("a=candidate:") == 2


@given(st.text(max_size=100), st.integers(0, len(TRICKLE)), st.integers(0, 40))
def test_whatever_the_text_only_sdp_error(odd, at, cut):
    for text in (odd, TRICKLE[:at] + odd[:3] + TRICKLE[at + cut :]):
        try:
            found = parse_fragment(text)
        except SdpError:
            continue
        assert found is None or (len(found[0]) >= 4 and len(found[1]) >= 22)
