"""What tests of adaptive video do in a page: publish simulcast, play by an access line, count what came."""

from __future__ import annotations

PUBLISH = """
async ([url, layers, codec, mode]) => {
  const media = await navigator.mediaDevices.getUserMedia(
    {audio: true, video: {width: 1280, height: 720, frameRate: 30}});
  const pc = window.pc = new RTCPeerConnection();
  pc.addTransceiver(media.getAudioTracks()[0], {direction: 'sendonly', streams: [media]});
  const sendEncodings = mode ? [{scalabilityMode: mode}] : layers;
  const sender = pc.addTransceiver(media.getVideoTracks()[0],
    {direction: 'sendonly', streams: [media], sendEncodings});
  if (codec) {
    const wanted = RTCRtpSender.getCapabilities('video').codecs.filter(
      (c) => c.mimeType === `video/${codec}` || c.mimeType === 'video/rtx');
    sender.setCodecPreferences(wanted);
  }
  await pc.setLocalDescription();
  const response = await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/sdp'},
    body: pc.localDescription.sdp});
  const answer = await response.text();
  if (response.status !== 201) throw new Error(answer);
  window.answer = answer;
  await pc.setRemoteDescription({type: 'answer', sdp: answer});
  await new Promise((ok, no) => {
    const look = () => {
      if (pc.connectionState === 'connected') ok();
      if (pc.connectionState === 'failed') no(new Error('failed'));
    };
    pc.onconnectionstatechange = look; look(); setTimeout(() => no(new Error('timeout')), 10000);
  });
  return answer;
}
"""

PLAY = """
async ([url, port]) => {
  const pc = window.pc = new RTCPeerConnection();
  const video = document.createElement('video');
  video.muted = true; video.autoplay = true; document.body.append(video);
  const stream = new MediaStream();
  pc.ontrack = (event) => { stream.addTrack(event.track); video.srcObject = stream; };
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.addTransceiver('audio', {direction: 'recvonly'});
  await pc.setLocalDescription();
  window.heights = []; window.began = performance.now();
  const see = () => {
    const height = video.videoHeight, last = window.heights.at(-1);
    if (height && (!last || last[1] !== height)) {
      window.heights.push([performance.now() - window.began, height]);
    }
    video.requestVideoFrameCallback(see);
  };
  video.requestVideoFrameCallback(see);
  const response = await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/sdp'},
    body: pc.localDescription.sdp});
  let answer = await response.text();
  if (response.status !== 201) throw new Error(answer);
  window.session = response.headers.get('Location');
  if (port) {
    answer = answer.replace(/(a=candidate:\\S+ 1 udp \\d+ \\S+) \\d+ typ host/g, `$1 ${port} typ host`);
  }
  window.answer = answer;
  await pc.setRemoteDescription({type: 'answer', sdp: answer});
}
"""

INBOUND = """
async () => {
  let found = null;
  (await window.pc.getStats()).forEach((entry) => {
    if (entry.type === 'inbound-rtp' && entry.kind === 'video') found = entry;
  });
  return {stats: found, heights: window.heights, now: performance.now() - window.began};
}
"""

OUTBOUND = """
async () => {
  const found = [];
  (await window.pc.getStats()).forEach((entry) => {
    if (entry.type === 'outbound-rtp' && entry.kind === 'video') found.push(
      {rid: entry.rid, width: entry.frameWidth, height: entry.frameHeight, frames: entry.framesEncoded,
       bytes: entry.bytesSent, active: entry.active, mode: entry.scalabilityMode, pli: entry.pliCount});
  });
  return found;
}
"""

# Rates that a phone on 2G, one on 3G and a cable line tell apart.
SIMULCAST = [
    {"rid": "q", "scaleResolutionDownBy": 4, "maxBitrate": 100_000},
    {"rid": "h", "scaleResolutionDownBy": 2, "maxBitrate": 400_000},
    {"rid": "f", "maxBitrate": 1_500_000},
]
