from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.encodings import CACHE_PACKETS
from relaymesh.node.publications import LocalPublication, PublicationTable
from relaymesh.protocol.messages import ParticipantName, TrackInfo
from tests.node.mesh import AUDIO, NAME, VIDEO, Recorder, video_frame


def make_publication() -> LocalPublication:
    publication = LocalPublication(NAME)
    publication.set_tracks((VIDEO, AUDIO))
    return publication


def test_takers_get_every_packet_once_and_the_cache_finds_the_recent_ones():
    publication = make_publication()
    encoding = publication.tracks[VIDEO.track].encodings[0]
    taker = Recorder()
    encoding.add_taker(taker)
    assert encoding.deliver(video_frame(publication, 10), 0.0)
    assert encoding.deliver(video_frame(publication, 12), 0.1)
    assert not encoding.deliver(video_frame(publication, 10), 0.2), "a duplicate"
    assert encoding.lost == 1
    assert encoding.deliver(video_frame(publication, 11), 0.3)
    assert encoding.lost == 0
    assert [f.sequence for f in taker.frames] == [10, 12, 11]
    assert encoding.duplicates == 1
    assert encoding.deliver(video_frame(publication, 12 + CACHE_PACKETS), 0.4)
    assert encoding.recent(12) is None
    assert not encoding.deliver(video_frame(publication, 11), 0.5), "older than the cache"


@given(st.lists(st.integers(0, 3000), max_size=300))
def test_no_order_of_arrival_delivers_twice_or_loses_count(sequences):
    publication = make_publication()
    encoding = publication.tracks[VIDEO.track].encodings[0]
    taker = Recorder()
    encoding.add_taker(taker)
    for sequence in sequences:
        encoding.deliver(video_frame(publication, sequence), 0.0)
    taken = [f.sequence for f in taker.frames]
    recent = {s for s in taken if s > (encoding.highest or 0) - CACHE_PACKETS}
    assert len([s for s in taken if s in recent]) == len(recent)
    assert encoding.received == len(taken)
    assert encoding.received + encoding.duplicates == len(sequences)


def test_a_track_that_stays_keeps_its_packets_and_a_changed_track_does_not():
    publication = make_publication()
    before = publication.tracks[VIDEO.track]
    publication.set_tracks((VIDEO,))
    assert publication.tracks == {VIDEO.track: before}
    publication.set_tracks((TrackInfo(VIDEO.track, "video", "H264", 90_000),))
    assert publication.tracks[VIDEO.track] is not before


def test_the_table_finds_publications_by_name_and_by_number():
    table = PublicationTable(limit=1)
    publication = make_publication()
    table.add(publication)
    assert table.full
    assert table.get(NAME) is publication
    assert table.by_id(publication.id) is publication
    assert table.track(publication.tracks[VIDEO.track].id) is publication.tracks[VIDEO.track]
    assert table.get(ParticipantName("room", "bob")) is None
    other = make_publication()
    table.remove(other)
    assert table.get(NAME) is publication, "only the publication itself can be removed, not one of its name"
    table.remove(publication)
    assert len(table) == 0


def test_what_a_node_keeps_since_keyframes_is_bounded_in_all():
    table = PublicationTable()
    publications = []
    for number in range(10):
        publication = LocalPublication(ParticipantName("room", f"p{number}"))
        publication.set_tracks((VIDEO,))
        table.add(publication)
        publications.append(publication)
        frame = video_frame(publication, 1, keyframe=True, payload=bytes(1000 * (number + 1)))
        publication.tracks[VIDEO.track].encodings[0].deliver(frame, 0.0)
    assert table.bound_kept() == 55_000
    assert table.bound_kept(37_000) == 36_000
    kept = [p.tracks[VIDEO.track].encodings[0].since_keyframe.size_bytes for p in publications]
    assert kept == [1000 * (number + 1) for number in range(8)] + [0, 0], "the largest go first"
