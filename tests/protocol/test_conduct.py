import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.conduct import ALLOWANCES, FORGIVEN_AFTER, HOLD_FIRST, HOLD_MOST, Conduct
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.link import Link
from tests.lossy_link import Conditions, Pair
from tests.protocol.test_recovery import feed, make_link


@pytest.mark.parametrize("name", ALLOWANCES)
def test_a_burst_is_allowed_and_one_more_is_an_offence(name: str) -> None:
    conduct = Conduct()
    burst = ALLOWANCES[name].burst
    assert conduct.judge({name: burst}, 0, 1.0) is None
    assert conduct.judge({name: burst + 1}, 0, 1.0) == name
    assert (conduct.offences, conduct.last_offence) == (1, name)
    assert conduct.held_until == 1.0 + HOLD_FIRST
    # What was judged is judged once.
    assert conduct.judge({name: burst + 1}, 0, 1.1) is None


@pytest.mark.parametrize("name", ALLOWANCES)
def test_a_slow_trickle_is_forgiven(name: str) -> None:
    conduct = Conduct()
    every = 1.01 / ALLOWANCES[name].per_second
    assert not any(conduct.judge({name: i}, 0, i * every) for i in range(2000))


def test_useless_retransmissions_are_measured_by_the_traffic() -> None:
    busy, idle = Conduct(), Conduct()
    for i in range(100):
        assert busy.judge({"retransmissions_useless": 40 * i}, 100 * i, i * 0.05) is None
    verdicts = [idle.judge({"retransmissions_useless": 40 * i}, 40 * i, i * 0.05) for i in range(100)]
    assert "retransmissions_useless" in verdicts


def test_each_time_it_stays_down_longer_until_it_has_behaved() -> None:
    conduct, count, now = Conduct(), 0, 0.0
    holds = []
    for _ in range(10):
        count += 100
        assert conduct.judge({"acks_invalid": count}, 0, now) == "acks_invalid"
        holds.append(conduct.held_until - now)
        now = conduct.held_until + 1.0
    assert holds == [min(HOLD_MOST, HOLD_FIRST * 2**i) for i in range(10)]
    now += FORGIVEN_AFTER
    assert conduct.judge({"acks_invalid": count + 100}, 0, now) == "acks_invalid"
    assert conduct.held_until - now == HOLD_FIRST


@given(st.lists(st.tuples(st.dictionaries(st.sampled_from([*ALLOWANCES, "other"]), st.integers(0, 2**40)),
                          st.integers(0, 2**40), st.floats(-1e9, 1e9)), max_size=20))  # fmt: skip
def test_whatever_is_counted_it_gives_a_verdict(looks: list[tuple[dict[str, int], int, float]]) -> None:
    conduct = Conduct()
    for counters, received, now in looks:
        assert conduct.judge(counters, received, now) in {None, *ALLOWANCES}
    conduct.debug_state()


def counters_of(link: Link) -> dict[str, int]:
    """What a link counts, under the names of the allowances."""
    state = link.debug_state()
    repair, recovered, prober, fragments, contexts = (
        state[key] for key in ("repair", "recovered", "prober", "fragments", "contexts")
    )
    keys, dropped = state["keys"], state["echoes_dropped"]
    assert isinstance(repair, dict)
    assert isinstance(recovered, dict)
    assert isinstance(prober, dict)
    assert isinstance(fragments, dict)
    assert isinstance(contexts, dict)
    assert isinstance(keys, list)
    assert isinstance(dropped, int)
    return {
        "acks_invalid": repair["acks_invalid"],
        "blocks_invalid": recovered["blocks"]["invalid"],
        "recovered_malformed": recovered["malformed"],
        "fragments_invalid": fragments["invalid"],
        "retransmissions_useless": recovered["useless"],
        "outages": sum(key["arrivals"]["outages"] for key in keys),
        "echoes_unmatched": prober["echoes_unmatched"],
        "echoes_dropped": dropped,
        "contexts_unknown": contexts["unknown"],
    }


@pytest.mark.parametrize("policy", ["arq", "fec", "adaptive"])
@pytest.mark.parametrize(
    "conditions",
    [
        {"loss": 0.3},
        {"jitter": 0.08},
        {"loss": 0.1, "reorder": 0.3, "duplicate": 0.2},
        {"loss": 0.05, "delay": 0.4, "jitter": 0.02},
    ],
    ids=str,
)
def test_an_honest_peer_on_a_bad_path_is_never_convicted(policy: str, conditions: dict[str, float]) -> None:
    a, b = make_link(1, policy), make_link(2, policy)
    both = {"delay": 0.02, **conditions}
    pair = Pair(
        a, b, forth=Conditions(**both), back=Conditions(**both),
        seed=random.Random(policy).getrandbits(16), errors=(ProtocolError,),
    )  # fmt: skip
    of = {a: Conduct(), b: Conduct()}

    def look() -> None:
        for link, conduct in of.items():
            assert conduct.judge(counters_of(link), link.sample(pair.now).received_packets, pair.now) is None

    feed(pair, a, 3000)
    for i in range(100):
        pair.at(i * 0.1, look)
    pair.run(10.0)
    look()
