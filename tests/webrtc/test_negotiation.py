"""The answering end of a negotiation: every state × input, renegotiation, what must stay, the rate."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.answer import AnswerSection
from relaymesh.webrtc.errors import NegotiationError, SdpError
from relaymesh.webrtc.negotiation import (
    INPUTS,
    OFFERS_AT_ONCE,
    STATES,
    TRANSITIONS,
    Input,
    Negotiation,
    Offered,
    State,
)

DIRECTORY = Path(__file__).parents[1] / "vectors" / "sdp"
SHA = ":".join(["AB"] * 32)


def audio(mid: str = "a", direction: str = "sendrecv", more: str = "") -> str:
    return (
        f"m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:{mid}\na={direction}\na=rtcp-mux\n"
        f"a=rtpmap:111 opus/48000/2\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\n{more}"
    )


def video(mid: str = "v", direction: str = "sendrecv", more: str = "", codec: str = "VP8/90000") -> str:
    return (
        f"m=video 9 UDP/TLS/RTP/SAVPF 96 97\na=mid:{mid}\na={direction}\na=rtcp-mux\n"
        f"a=rtpmap:96 {codec}\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n{more}"
    )


def stopped(kind: str = "video", mid: str = "v") -> str:
    return f"m={kind} 0 UDP/TLS/RTP/SAVPF 96\n" + (f"a=mid:{mid}\n" if mid else "")


def offer(*sections: str, ufrag: str = "abcd", password: str = "p" * 22, more: str = "") -> str:
    mids = [match[1] for s in sections if s.split()[1] != "0" and (match := re.search(r"a=mid:(\S+)", s))]
    return (
        f"v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\na=group:BUNDLE {' '.join(mids)}\n"
        f"a=ice-ufrag:{ufrag}\na=ice-pwd:{password}\na=fingerprint:sha-256 {SHA}\n{more}" + "".join(sections)
    )


def answer(
    negotiation: Negotiation, offered: Offered, *, refuse: tuple[str, ...] = (), ufrag: str = "ours"
) -> str:
    """Accept all sections but those with the mids *refuse*; take what is sent, send nothing."""
    sections = []
    for section in offered.offer.media:
        if section.rejected or section.mid in refuse or not section.codecs:
            sections.append(AnswerSection(section, "inactive"))
        else:
            direction = "recvonly" if section.direction in ("sendrecv", "sendonly") else "inactive"
            sections.append(AnswerSection(section, direction, section.codecs[0]))
    return negotiation.answer(
        sections, ufrag=ufrag, password="o" * 24, fingerprint=SHA, addresses=[("192.0.2.1", 4000)]
    )


def agreed(*sections: str, **more: str) -> Negotiation:
    negotiation = Negotiation(77, 0.0)
    answer(negotiation, negotiation.handle_offer(offer(*sections, **more), 0.0))
    return negotiation


# --- the machine ------------------------------------------------------------------------------------


def in_state(state: State) -> Negotiation:
    negotiation = agreed(audio())
    if state == "have-remote-offer":
        negotiation.handle_offer(offer(audio(), video()), 0.0)
    elif state == "closed":
        negotiation.close()
    return negotiation


def feed(negotiation: Negotiation, event: Input) -> None:
    match event:
        case "offer":
            negotiation.handle_offer(offer(audio(), video()), 0.0)
        case "answer":
            pending = Negotiation(1, 0.0).handle_offer(offer(audio(), video()), 0.0)
            answer(negotiation, pending)
        case "reject":
            negotiation.reject()
        case "fragment":
            negotiation.handle_fragment("a=mid:a\r\n", 0.0)
        case "close":
            negotiation.close()


@pytest.mark.parametrize("event", INPUTS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_and_input(state: State, event: Input):
    negotiation = in_state(state)
    before = negotiation.debug_state()
    if (state, event) in TRANSITIONS:
        feed(negotiation, event)
        assert negotiation.state == TRANSITIONS[state, event]
        assert negotiation.version == (2 if event == "answer" else 1)
        return
    with pytest.raises(NegotiationError) as caught:
        feed(negotiation, event)
    assert (caught.value.kind, caught.value.fault) == (
        "state",
        "client" if event in ("offer", "fragment") else "node",
    )
    assert negotiation.debug_state() == before | {"refused": {"state": 1}}


@given(st.lists(st.sampled_from(INPUTS), max_size=30))
def test_whatever_comes_the_table_decides(events: list[Input]):
    negotiation = Negotiation(1, 0.0)
    answers = 0
    for event in events:
        state, version = negotiation.state, negotiation.version
        try:
            feed(negotiation, event)
        except NegotiationError:
            assert set(negotiation.refused) <= {"state", "rate"}
            assert (negotiation.state, negotiation.version) == (state, version)
        else:
            assert negotiation.state == TRANSITIONS[state, event]
            answers += event == "answer"
    assert negotiation.version == answers


def test_one_offer_and_no_more_as_whip_and_whep():
    negotiation = Negotiation(77, 0.0)
    offered = negotiation.handle_offer((DIRECTORY / "chromium-whip.sdp").read_bytes().decode(), 0.0)
    assert (offered.first, offered.added, offered.ice_restart) == (True, (0, 1), False)
    text = answer(negotiation, offered)
    assert text.startswith("v=0\r\no=- 77 1 IN IP4 192.0.2.1\r\n")
    negotiation.close()
    with pytest.raises(NegotiationError, match="closed"):
        negotiation.handle_offer(offer(audio()), 1.0)


@pytest.mark.parametrize("name", sorted(path.stem for path in DIRECTORY.glob("*.sdp")))
def test_a_real_offer_repeated_changes_nothing(name: str):
    text = (DIRECTORY / f"{name}.sdp").read_bytes().decode()
    negotiation = Negotiation(77, 0.0)
    first = negotiation.handle_offer(text, 0.0)
    data = tuple(m.mid for m in first.offer.media if m.kind == "application")
    answer(negotiation, first, refuse=data)
    dead = tuple(i for i, m in enumerate(first.offer.media) if m.mid in data)
    again = negotiation.handle_offer(text, 1.0)
    assert again == Offered(first.offer, first=False, added=dead)
    assert "o=- 77 2 " in answer(negotiation, again)


# --- what changes -----------------------------------------------------------------------------------


def test_added_turned_and_resourced():
    negotiation = agreed(audio(), video(more="a=ssrc:1 cname:x\n"))
    offered = negotiation.handle_offer(
        offer(audio(direction="recvonly"), video(more="a=ssrc:2 cname:x\n"), audio("b"), stopped(mid="w")),
        1.0,
    )
    assert (offered.added, offered.turned, offered.resourced) == ((2,), (0,), (1,))
    assert (offered.stopped, offered.ice_restart, offered.first) == ((), False, False)
    answer(negotiation, offered)
    assert [s.live for s in negotiation.sections] == [True, True, True, False]


def test_a_stopped_section_and_its_place_taken_by_another():
    negotiation = agreed(audio(), video())
    offered = negotiation.handle_offer(offer(audio(), stopped(mid="")), 1.0)
    assert offered.stopped == (1,)
    text = answer(negotiation, offered)
    assert "m=video 0 " in text
    assert negotiation.handle_offer(offer(audio(), stopped()), 2.0).stopped == ()
    negotiation.reject()
    # RFC 8829 §5.2.2: another mid, another kind, and payload types mean what they like.
    offered = negotiation.handle_offer(offer(audio(), video("c", codec="H264/90000")), 3.0)
    assert offered.added == (1,)
    answer(negotiation, offered)
    assert [s.mid for s in negotiation.sections] == ["a", "c"]


def test_a_section_the_node_refused_is_free_too():
    negotiation = Negotiation(1, 0.0)
    answer(negotiation, negotiation.handle_offer(offer(audio(), video()), 0.0), refuse=("v",))
    assert negotiation.handle_offer(offer(audio(), audio("c")), 1.0).added == (1,)


def test_an_ice_restart_is_two_new_credentials():
    negotiation = agreed(audio())
    offered = negotiation.handle_offer(offer(audio(), ufrag="efgh", password="q" * 22), 1.0)
    assert offered.ice_restart
    assert "a=ice-ufrag:new" in answer(negotiation, offered, ufrag="new")
    assert not negotiation.handle_offer(offer(audio(), ufrag="efgh", password="q" * 22), 2.0).ice_restart


def test_a_rejected_offer_leaves_no_trace():
    negotiation = agreed(audio(), video())
    negotiation.handle_offer(offer(audio(direction="recvonly"), stopped()), 1.0)
    negotiation.reject()
    again = negotiation.handle_offer(offer(audio(), video()), 2.0)
    assert (again.added, again.stopped, again.turned) == ((), (), ())
    assert negotiation.version == 1


# --- what may not change ----------------------------------------------------------------------------

H264 = "a=fmtp:96 packetization-mode={mode};profile-level-id={profile}\n"

FORBIDDEN: dict[str, Callable[[], tuple[str, str]]] = {
    "a section removed": lambda: (offer(audio(), video()), offer(audio())),
    "sections swapped": lambda: (offer(audio(), video()), offer(video(), audio())),
    "another mid": lambda: (offer(audio(), video()), offer(audio(), video("w"))),
    "another mid, stopped": lambda: (offer(audio(), video()), offer(audio(), stopped(mid="w"))),
    "another kind": lambda: (offer(audio(), video()), offer(audio(), audio("v"))),
    "another kind, stopped": lambda: (offer(audio(), video()), offer(audio(), stopped("audio"))),
    "another protocol": lambda: (offer(audio()), offer(audio().replace("UDP/TLS/RTP", "TCP/DTLS/RTP"))),
    "a codec remapped": lambda: (offer(video()), offer(video(codec="H264/90000"))),
    "a clock remapped": lambda: (offer(video()), offer(video(codec="VP8/45000"))),
    "rtx remapped": lambda: (
        offer(video()),
        offer(
            video()
            .replace("rtpmap:96 VP8", "rtpmap:97 VP8")
            .replace("97 rtx", "96 rtx")
            .replace("97 apt=96", "96 apt=97")
        ),
    ),
    "a packetization mode": lambda: (
        offer(video(codec="H264/90000", more=H264.format(mode=1, profile="42e01f"))),
        offer(video(codec="H264/90000", more=H264.format(mode=0, profile="42e01f"))),
    ),
    "a profile": lambda: (
        offer(video(codec="H264/90000", more=H264.format(mode=1, profile="42e01f"))),
        offer(video(codec="H264/90000", more=H264.format(mode=1, profile="64001f"))),
    ),
    "an identifier remapped": lambda: (
        offer(audio()),
        offer(audio().replace("rtp-hdrext:sdes:mid", "other")),
    ),
    "an extension moved": lambda: (offer(audio()), offer(audio().replace("extmap:4", "extmap:5"))),
    "the fingerprint": lambda: (offer(audio()), offer(audio()).replace(SHA, SHA.replace("AB", "AC"))),
    "the DTLS role, to passive": lambda: (offer(audio()), offer(audio(), more="a=setup:passive\n")),
    "the DTLS role, to active": lambda: (
        offer(audio(), more="a=setup:passive\n"),
        offer(audio(), more="a=setup:active\n"),
    ),
    "the bundle": lambda: (offer(audio()), offer(audio()).replace("a=group:BUNDLE a\n", "")),
    "only the ufrag": lambda: (offer(audio()), offer(audio(), ufrag="efgh")),
    "only the password": lambda: (offer(audio()), offer(audio(), password="q" * 22)),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_must_stay(name: str):
    before, after = FORBIDDEN[name]()
    assert before != after
    negotiation = Negotiation(1, 0.0)
    answer(negotiation, negotiation.handle_offer(before, 0.0))
    state = negotiation.debug_state()
    with pytest.raises(NegotiationError) as caught:
        negotiation.handle_offer(after, 1.0)
    assert (caught.value.kind, caught.value.fault) == ("change", "client")
    assert negotiation.debug_state() == state | {"refused": {"change": 1}}
    negotiation.handle_offer(before, 2.0)  # and the session goes on


def test_what_a_payload_type_has_ever_meant_counts():
    negotiation = agreed(video())
    without = video().replace("96 97\n", "97\n").replace("a=rtpmap:96 VP8/90000\n", "")
    without = without.replace("a=rtpmap:97 rtx/90000", "a=rtpmap:98 VP8/90000").replace(
        "SAVPF 97", "SAVPF 98"
    )
    answer(negotiation, negotiation.handle_offer(offer(without), 1.0))
    with pytest.raises(NegotiationError, match="payload type 96"):
        negotiation.handle_offer(offer(video(codec="H264/90000")), 2.0)


def test_what_may_change_of_a_format():
    h264 = video(codec="H264/90000", more=H264.format(mode=1, profile="42e01f"))
    negotiation = agreed(audio(more="a=fmtp:111 stereo=1\n"), h264)
    again = h264.replace("42e01f", "42E034").replace("H264", "h264")
    assert not negotiation.handle_offer(offer(audio(more="a=fmtp:111 stereo=0\n"), again), 1.0).turned


def test_our_dtls_role_stays_when_the_client_leaves_it_to_us():
    negotiation = agreed(audio(), more="a=setup:passive\n")
    assert negotiation.dtls_role == "client"
    offered = negotiation.handle_offer(offer(audio(), more="a=setup:actpass\n"), 1.0)
    assert "a=setup:active\r\n" in answer(negotiation, offered)
    negotiation = agreed(audio(), more="a=setup:actpass\n")
    offered = negotiation.handle_offer(offer(audio(), more="a=setup:active\n"), 1.0)
    assert "a=setup:passive\r\n" in answer(negotiation, offered)


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v=0\n",
        offer(*(video(f"v{i}") for i in range(200))),
        offer(video(more="".join(f"a=rid:r{i} send\n" for i in range(64)))),
        offer(video(more=f"a=rid:{'r' * 5000} send\n")),
        offer(audio(), more="a=ice-lite\n"),
    ],
)
def test_what_is_no_offer_is_told_with_its_cause(text: str):
    negotiation = agreed(audio())
    with pytest.raises(NegotiationError) as caught:
        negotiation.handle_offer(text, 1.0)
    assert caught.value.kind == "syntax"
    assert isinstance(caught.value.__cause__, SdpError)
    assert (negotiation.state, negotiation.version) == ("stable", 1)


def test_a_thousand_offers_a_second():
    negotiation = Negotiation(1, 0.0)
    text = offer(audio())
    answered = 0
    for step in range(1000):
        try:
            offered = negotiation.handle_offer(text, step / 1000)
        except NegotiationError:
            continue
        else:
            answer(negotiation, offered)
            answered += 1
    assert answered == OFFERS_AT_ONCE + 1  # 2 per second since the first
    assert negotiation.refused == {"rate": 1000 - answered}
    negotiation.handle_offer(text, 1.5)


def test_malformed_offers_are_counted_against_the_rate_too():
    negotiation = Negotiation(1, 0.0)
    for _ in range(OFFERS_AT_ONCE):
        with pytest.raises(NegotiationError):
            negotiation.handle_offer("v=0", 0.0)
    with pytest.raises(NegotiationError) as caught:
        negotiation.handle_offer(offer(audio()), 0.0)
    assert caught.value.kind == "rate"


@given(st.sampled_from(sorted(path.stem for path in DIRECTORY.glob("*.sdp"))), st.data())
def test_a_mutated_offer_is_refused_or_answered_and_the_session_goes_on(name: str, data: st.DataObject):
    text = (DIRECTORY / f"{name}.sdp").read_bytes().decode()
    negotiation = Negotiation(1, 0.0)
    answer(negotiation, negotiation.handle_offer(text, 0.0))
    mutated = text
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated)))
        cut = data.draw(st.integers(0, 40))
        mutated = mutated[:at] + data.draw(st.text(max_size=3)) + mutated[at + cut :]
    try:
        offered = negotiation.handle_offer(mutated, 1.0)
    except NegotiationError:
        assert set(negotiation.refused) <= {"syntax", "change"}
        assert (negotiation.state, negotiation.version) == ("stable", 1)
    else:
        answer(negotiation, offered)
        assert negotiation.version == 2


def test_an_answer_that_does_not_fit_is_our_bug_and_changes_nothing():
    negotiation = agreed(audio())
    negotiation.handle_offer(offer(audio(), video()), 1.0)
    with pytest.raises(AssertionError):
        answer(negotiation, Negotiation(1, 0.0).handle_offer(offer(audio()), 0.0))
    assert (negotiation.state, negotiation.version, len(negotiation.sections)) == ("have-remote-offer", 1, 1)
