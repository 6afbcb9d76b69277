// WHIP (RFC 9725) and WHEP for a page: one POST with an offer, one answer, one DELETE.
// Both functions return a Session; a refusal is an Error whose message is the server's reason, and
// session.refused says what of the offer was left out, if anything. options.token is a room token; it goes to the
// endpoint and to its sessions, and nowhere else.

export class Session {
  constructor(pc, location, headers = {}) {
    this.pc = pc;
    this.headers = headers; // of requests to location
    this.location = location; // URL to DELETE, or null when the server named none
    this.stream = new MediaStream();
    this.refused = '';
  }
  // The DELETE goes first, or the session has already ended with its connection; keepalive lets it
  // out even while the page is being closed.
  async close() {
    const location = this.location;
    this.location = null;
    if (location) await fetch(location, { method: 'DELETE', headers: this.headers, keepalive: true }).catch(() => {});
    this.pc.close();
  }
}

// Sends the tracks of `media` to `url`. options.codec prefers a video codec: 'VP8', 'VP9', 'AV1', 'H264' or 'H265'.
export async function publish(url, media, options = {}) {
  const pc = new RTCPeerConnection();
  for (const track of media.getTracks()) {
    const sender = pc.addTransceiver(track, { direction: 'sendonly', streams: [media] });
    if (track.kind === 'video' && options.codec) prefer(sender, options.codec);
  }
  const target = new URL(url, window.location);
  if (options.codec) target.searchParams.set('codec', options.codec);
  const session = await negotiate(pc, target, options.token);
  session.stream = media;
  return session;
}

// Chromium leaves the dependency descriptor out of its offers; without it AV1 plays in its lowest spatial layer.
function describeLayers(transceiver) {
  if (!transceiver.getHeaderExtensionsToNegotiate) return;
  const extensions = transceiver.getHeaderExtensionsToNegotiate();
  for (const extension of extensions) {
    if (extension.uri.endsWith('#dependency-descriptor-rtp-header-extension')) extension.direction = 'sendrecv';
  }
  transceiver.setHeaderExtensionsToNegotiate(extensions);
}

// Plays `url`; session.stream holds the tracks as they come.
export async function play(url, options = {}) {
  const pc = new RTCPeerConnection();
  const stream = new MediaStream();
  pc.ontrack = (event) => stream.addTrack(event.track);
  describeLayers(pc.addTransceiver('video', { direction: 'recvonly' }));
  pc.addTransceiver('audio', { direction: 'recvonly' });
  const session = await negotiate(pc, new URL(url, window.location), options.token, askForStereo);
  session.stream = stream;
  return session;
}

// Resolves when `pc` is connected; rejects when it fails or takes too long.
export function connected(pc, withinMs = 10000) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no media connection after ${withinMs / 1000} s`)), withinMs);
    const look = () => {
      if (pc.connectionState === 'connected') resolve('connected');
      else if (['failed', 'closed'].includes(pc.connectionState)) reject(new Error('the media connection failed'));
      else return;
      clearTimeout(timer);
    };
    pc.addEventListener('connectionstatechange', look);
    look();
  });
}

// The entries of getStats() as a plain list: it can leave the page.
export async function rawStats(pc) {
  return pc ? [...(await pc.getStats()).values()] : [];
}

// `offer` in which every opus says that two channels are welcome: without stereo=1 (RFC 7587) browsers
// decode one.
export function askForStereo(offer) {
  const opus = new Set([...offer.matchAll(/^a=rtpmap:(\d+) opus\/48000/gim)].map((found) => found[1]));
  return offer.replace(/^a=fmtp:(\d+) ([^\r\n]*)/gim, (line, number, parameters) =>
    opus.has(number) && !/(^|;)\s*stereo=/.test(parameters) ? `${line};stereo=1` : line);
}

async function describe(pc, change) {
  if (!change) return pc.setLocalDescription();
  const offer = await pc.createOffer();
  const wanted = { type: 'offer', sdp: change(offer.sdp) };
  // A browser that takes no change plays in mono rather than not at all.
  return pc.setLocalDescription(wanted).catch(() => pc.setLocalDescription(offer));
}

// The room token in a page's own address, as #token=…: a fragment is sent to no server, in no Referer, and so stands
// in no log. It stays where the user put it: kept elsewhere, a link with another ?node= would take it there.
export function tokenOfPage() {
  return new URLSearchParams(window.location.hash.slice(1)).get('token') || undefined;
}

async function negotiate(pc, url, token, change = null) {
  try {
    // Gathering is not waited for: a node answers checks from any address, so it needs no candidates.
    await describe(pc, change);
    const bearer = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/sdp', ...bearer },
      body: pc.localDescription.sdp,
    }).catch(() => { throw new Error(`no answer from ${url.origin}`); });
    const text = await response.text();
    if (response.status !== 201) {
      const error = new Error(text.trim().slice(0, 300) || `${response.status} ${response.statusText}`);
      error.status = response.status;
      throw error;
    }
    const location = response.headers.get('Location');
    const target = location && new URL(location, url);
    const session = new Session(pc, target && target.href, target && target.origin === url.origin ? bearer : {});
    session.refused = response.headers.get('RelayMesh-Refused') || '';
    if (session.refused) console.warn(`left out by the node: ${session.refused}`);
    await pc.setRemoteDescription({ type: 'answer', sdp: text });
    return session;
  } catch (error) {
    pc.close();
    throw error;
  }
}

function prefer(transceiver, codec) {
  const known = RTCRtpSender.getCapabilities('video').codecs;
  const wanted = known.filter((entry) => entry.mimeType.toLowerCase() === `video/${codec.toLowerCase()}`);
  if (!wanted.length) throw new Error(`this browser has no encoder for ${codec}`);
  transceiver.setCodecPreferences([...wanted, ...known.filter((entry) => !wanted.includes(entry))]);
}
