"""Bandwidth towards one subscriber, estimated by the sender; its probes and its pacer.

A session holds one :class:`~relaymesh.webrtc.bwe.estimator.BandwidthEstimator` and one
:class:`~relaymesh.webrtc.bwe.pacer.SessionPacer`, and turns, whenever it is woken, once through::

    estimator.handle_timeout(now)
    pacer.set_estimate(estimator.estimate_bps, now)
    cluster = estimator.poll_probe(now)
    if cluster is not None:
        pacer.begin_probe(cluster, now)
    for item in pacer.poll(now):
        ...  # send it; if it has a transport-wide number:
        estimator.on_sent(sequence, size_bytes, now, pacer.probe)
    due = pacer.poll_probe(now)
    while due > 0:  # bytes: RTX duplicates or padding, made by the session
        ...  # send one; on_sent(…, pacer.probe), pacer.on_probe_sent(size_bytes, now)
        due -= size_bytes

RTCP goes into the estimator's ``handle_*``; the rate wanted beyond the estimate (``allocation.wanted_bps``)
into ``estimator.set_wanted``. Where the peer agreed to REMB only,
:class:`~relaymesh.webrtc.bwe.remb.RembReader` turns what it says into the rate of all that is sent, and
clusters are padding that fills the estimate. Sizes are bytes on the wire, with IP and UDP headers
(:data:`PACKET_OVERHEAD_BYTES` each), for that is what the path carries; rates of layers that are compared
with the estimate have to be counted alike.
"""

PACKET_OVERHEAD_BYTES = 28  # IPv4 and UDP headers
