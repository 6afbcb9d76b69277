"""Opus in answers: stereo is asked for and announced in our own words, never repeated from the offer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.codecs import parameters
from relaymesh.webrtc.opus import answer_fmtp, offers_stereo, takes_stereo

CHROMIUM = "minptime=10;useinbandfec=1"
STEREO = "minptime=10;useinbandfec=1;sprop-stereo=1;stereo=1"  # as OBS and others write it


def test_a_publisher_that_has_stereo_is_asked_for_it():
    assert offers_stereo(STEREO)
    assert offers_stereo("SPROP-STEREO=1")
    assert offers_stereo("stereo=1")
    assert not offers_stereo(CHROMIUM)
    assert not offers_stereo("sprop-stereo=0;stereo=0")
    assert answer_fmtp(STEREO, receives_stereo=True) == "minptime=10;useinbandfec=1;stereo=1"


def test_a_player_is_told_of_stereo_and_not_asked_for_it():
    assert takes_stereo("stereo=1; minptime=10")
    assert not takes_stereo("sprop-stereo=1")
    assert answer_fmtp(CHROMIUM + ";stereo=1", sends_stereo=True) == CHROMIUM + ";sprop-stereo=1"


def test_an_offer_without_parameters():
    assert answer_fmtp("") == ""
    assert answer_fmtp("", receives_stereo=True, sends_stereo=True) == "stereo=1;sprop-stereo=1"


@given(st.text(st.characters(codec="ascii"), max_size=80), st.booleans(), st.booleans())
def test_whatever_the_offer_says_stereo_is_ours(fmtp, receives, sends):
    answered = parameters(answer_fmtp(fmtp, receives_stereo=receives, sends_stereo=sends))
    assert (answered.get("stereo") == "1", answered.get("sprop-stereo") == "1") == (receives, sends)
