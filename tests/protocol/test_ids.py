import pytest

from relaymesh.protocol.ids import ParticipantId, TrackId, is_name, name_hash, participant_id


@pytest.mark.parametrize("name", ["a", "Room-1", "eu.west_2", "0" * 64])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", ".a", "-a", "a b", "a\n", "a" * 65, "ä", "a/b", "a\0"])
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)


def test_a_participant_is_the_hash_of_its_names() -> None:
    # printf demo | b2sum -l 64
    assert name_hash("demo") == 0x8CF40C6846431C20
    assert participant_id("demo", "alice") == ParticipantId(name_hash("demo"), name_hash("alice"))
    assert name_hash("demo") != name_hash("Demo")
    assert TrackId(1, 2, 3).owner == ParticipantId(1, 2)
