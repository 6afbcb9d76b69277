//! SRTP and SRTCP of one session: what `relaymesh/kernels/srtp_reference.py` has libsrtp do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::keys::{ENCRYPTED, Keys, Profile};

const RTP_HEADER_BYTES: usize = 12; // RFC 3550 § 5.1
const RTCP_HEADER_BYTES: usize = 8; // with the sender's SSRC, RFC 3550 § 6.4
const BUFFER_BYTES: usize = 2048; // the reference's: an Ethernet frame and the longest trailer, with room
const LONGEST_PLAIN_BYTES: usize = BUFFER_BYTES - (4 + 16 + 128);
const RTP_WINDOW: u64 = 1024; // packets; RFC 3711 § 3.3.2 asks for 64, a retransmission may come much later
const RTCP_WINDOW: u32 = 128; // packets
const MAX_STREAMS: usize = 256; // SSRCs of a peer
const MAX_INDEX: i64 = (1 << 48) - 1; // RFC 3711 § 9.2: then a key has served
const MAX_RTCP_INDEX: u32 = !ENCRYPTED;

pyo3::create_exception!(
    relaymesh_native.srtp,
    SrtpFailure,
    PyValueError,
    "A packet could not be protected or opened; the message says why."
);

/// Why a packet was refused, in the reference's words.
#[derive(Clone, Copy, Debug)]
pub struct Refused(&'static str);

const SIZE: Refused = Refused("the packet is too short or too long");
const MALFORMED: Refused = Refused("bad parameter");
const FORGED: Refused = Refused("authentication failed");
const REPLAYED: Refused = Refused("replayed");
const OLD: Refused = Refused("too old");
const FULL: Refused = Refused("too many SSRCs");
const EXPIRED: Refused = Refused("the key has served for all its packets");
const CLEAR: Refused = Refused("not encrypted");

impl From<Refused> for PyErr {
    fn from(refused: Refused) -> Self {
        SrtpFailure::new_err(refused.0)
    }
}

fn u16_at(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn u32_at(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

/// The length of an RTP header with its CSRCs and extension, all of which stay clear.
fn header_bytes(packet: &[u8]) -> Result<usize, Refused> {
    let mut size = RTP_HEADER_BYTES + 4 * usize::from(packet[0] & 15);
    if packet[0] & 0x10 != 0 {
        if packet.len() < size + 4 {
            return Err(MALFORMED);
        }
        size += 4 + 4 * usize::from(u16_at(packet, size + 2));
    }
    if packet.len() < size { Err(MALFORMED) } else { Ok(size) }
}

/// How far `sequence` is from `index`, the highest so far: RFC 3711 § 3.3.1, but that nothing comes before
/// the first rollover.
fn distance(index: u64, sequence: u16) -> i64 {
    const MEDIAN: u64 = 1 << 15;
    let local = (index & 0xFFFF) as i64;
    let plain = i64::from(sequence) - local;
    if index <= MEDIAN || plain.abs() <= MEDIAN as i64 {
        plain
    } else if plain > 0 {
        plain - 0x10000
    } else {
        plain + 0x10000
    }
}

/// State by SSRC. A session has few, and mostly the same as for the packet before.
struct Streams<State> {
    ssrcs: Vec<u32>,
    states: Vec<State>,
    last: usize,
}

impl<State: Default> Streams<State> {
    fn new() -> Self {
        Self { ssrcs: Vec::new(), states: Vec::new(), last: 0 }
    }

    fn find(&mut self, ssrc: u32) -> Option<usize> {
        if self.ssrcs.get(self.last) != Some(&ssrc) {
            self.last = self.ssrcs.iter().position(|known| *known == ssrc)?;
        }
        Some(self.last)
    }

    fn add(&mut self, ssrc: u32) -> usize {
        self.ssrcs.push(ssrc);
        self.states.push(State::default());
        self.last = self.ssrcs.len() - 1;
        self.last
    }
}

#[derive(Default)]
struct Sent {
    index: u64, // the highest so far, with the rollover counter
    rtcp_index: u32,
}

pub struct Sender {
    rtp: Keys,
    rtcp: Keys,
    streams: Streams<Sent>,
}

impl Sender {
    fn stream(&mut self, ssrc: u32) -> &mut Sent {
        let at = self.streams.find(ssrc).unwrap_or_else(|| self.streams.add(ssrc));
        &mut self.streams.states[at]
    }

    /// Protect the packet from `start` of `buffer` to its end, in place. After an error the packet is as it was.
    pub fn protect_rtp(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), Refused> {
        let packet = &buffer[start..];
        if !(RTP_HEADER_BYTES..=LONGEST_PLAIN_BYTES).contains(&packet.len()) {
            return Err(SIZE);
        }
        let clear = header_bytes(packet)?;
        let (sequence, ssrc) = (u16_at(packet, 2), u32_at(packet, 8));
        let stream = self.stream(ssrc);
        let delta = distance(stream.index, sequence);
        if delta <= -(RTP_WINDOW as i64) {
            return Err(OLD);
        }
        let index = stream.index as i64 + delta;
        if index > MAX_INDEX {
            return Err(EXPIRED);
        }
        stream.index = stream.index.max(index as u64);
        self.rtp.seal_rtp(buffer, start, clear, ssrc, index as u64);
        Ok(())
    }

    fn protect_rtcp(&mut self, packet: &mut Vec<u8>) -> Result<(), Refused> {
        if !(RTCP_HEADER_BYTES..=LONGEST_PLAIN_BYTES).contains(&packet.len()) {
            return Err(SIZE);
        }
        let ssrc = u32_at(packet, 4);
        let stream = self.stream(ssrc);
        if stream.rtcp_index >= MAX_RTCP_INDEX {
            return Err(EXPIRED);
        }
        stream.rtcp_index += 1;
        let index = stream.rtcp_index;
        self.rtcp.seal_rtcp(packet, ssrc, index);
        Ok(())
    }
}

/// Which indices came, of the newest `RTP_WINDOW` and `RTCP_WINDOW`.
#[derive(Default)]
struct Received {
    index: u64,
    seen: [u64; RTP_WINDOW as usize / 64], // a ring: the bit of an index is that of its remainder
    rtcp_start: u32,
    rtcp_seen: u128, // bit k: rtcp_start + k
}

impl Received {
    fn check(&self, delta: i64) -> Result<u64, Refused> {
        let index = (self.index as i64 + delta) as u64;
        if delta > 0 {
            return Ok(index);
        }
        if delta <= -(RTP_WINDOW as i64) {
            return Err(OLD);
        }
        let bit = index % RTP_WINDOW;
        if self.seen[bit as usize / 64] >> (bit % 64) & 1 == 1 { Err(REPLAYED) } else { Ok(index) }
    }

    fn add(&mut self, index: u64) {
        if index > self.index {
            if index - self.index >= RTP_WINDOW {
                self.seen = [0; RTP_WINDOW as usize / 64];
            } else {
                for passed in self.index + 1..index {
                    let bit = passed % RTP_WINDOW;
                    self.seen[bit as usize / 64] &= !(1 << (bit % 64));
                }
            }
            self.index = index;
        }
        let bit = index % RTP_WINDOW;
        self.seen[bit as usize / 64] |= 1 << (bit % 64);
    }

    fn check_rtcp(&self, index: u32) -> Result<(), Refused> {
        let Some(bit) = index.checked_sub(self.rtcp_start) else {
            return Err(OLD);
        };
        if bit < RTCP_WINDOW && self.rtcp_seen >> bit & 1 == 1 { Err(REPLAYED) } else { Ok(()) }
    }

    fn add_rtcp(&mut self, index: u32) {
        let bit = index - self.rtcp_start;
        if bit < RTCP_WINDOW {
            self.rtcp_seen |= 1 << bit;
            return;
        }
        let forward = bit - (RTCP_WINDOW - 1);
        self.rtcp_seen = self.rtcp_seen.checked_shr(forward).unwrap_or(0) | 1 << (RTCP_WINDOW - 1);
        self.rtcp_start += forward;
    }
}

struct Receiver {
    rtp: Keys,
    rtcp: Keys,
    streams: Streams<Received>,
}

impl Receiver {
    /// Where the state of the SSRC at `at` of `packet` is, or None where it is new and there may be more.
    fn find(&mut self, packet: &[u8], at: usize) -> Result<Option<usize>, Refused> {
        let found = if packet.len() < at + 4 { None } else { self.streams.find(u32_at(packet, at)) };
        if found.is_none() && self.streams.ssrcs.len() >= MAX_STREAMS {
            return Err(FULL);
        }
        Ok(found)
    }

    fn unprotect_rtp(&mut self, packet: &mut Vec<u8>) -> Result<(), Refused> {
        let found = self.find(packet, 8)?;
        if !(RTP_HEADER_BYTES..=BUFFER_BYTES).contains(&packet.len()) {
            return Err(SIZE);
        }
        let clear = header_bytes(packet)?;
        let (sequence, ssrc) = (u16_at(packet, 2), u32_at(packet, 8));
        let index = match found {
            Some(at) => {
                let state = &self.streams.states[at];
                state.check(distance(state.index, sequence))?
            }
            None => u64::from(sequence),
        };
        if packet.len() < clear + self.rtp.tag_bytes() {
            return Err(MALFORMED);
        }
        self.rtp.open_rtp(packet, clear, ssrc, index).ok_or(FORGED)?;
        // Only now: before, the SSRC may be a stranger's invention.
        let at = found.unwrap_or_else(|| self.streams.add(ssrc));
        self.streams.states[at].add(index);
        Ok(())
    }

    fn unprotect_rtcp(&mut self, packet: &mut Vec<u8>) -> Result<(), Refused> {
        let found = self.find(packet, 4)?;
        if !(RTCP_HEADER_BYTES..=BUFFER_BYTES).contains(&packet.len()) {
            return Err(SIZE);
        }
        if packet.len() < RTCP_HEADER_BYTES + self.rtcp.tag_bytes() + 4 {
            return Err(MALFORMED);
        }
        let ssrc = u32_at(packet, 4);
        let word = u32_at(packet, self.rtcp.index_at(packet.len()));
        if word & ENCRYPTED == 0 && matches!(self.rtcp, Keys::Cm(_)) {
            return Err(CLEAR);
        }
        let index = word & !ENCRYPTED;
        if let Some(at) = found {
            self.streams.states[at].check_rtcp(index)?;
        }
        self.rtcp.open_rtcp(packet, ssrc, word).ok_or(FORGED)?;
        let at = found.unwrap_or_else(|| self.streams.add(ssrc));
        self.streams.states[at].add_rtcp(index);
        Ok(())
    }
}

fn both_keys(key: &[u8], profile: &str) -> PyResult<(Keys, Keys)> {
    let Some(found) = Profile::named(profile) else {
        return Err(PyValueError::new_err(format!("no SRTP profile '{profile}'")));
    };
    if key.len() != found.bytes() {
        let message = format!("a key for {profile} has {} bytes, not {}", found.bytes(), key.len());
        return Err(PyValueError::new_err(message));
    }
    Ok((Keys::derive(key, found, false), Keys::derive(key, found, true)))
}

/// A lock that no other thread holds for longer than a batch; a panic inside it leaves the state usable.
pub fn lock_state<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Protects what we send. `key` is the master key followed by the master salt.
#[pyclass(frozen, module = "relaymesh_native.srtp")]
pub struct SrtpSender {
    pub state: Arc<Mutex<Sender>>, // shared with the fan-out, which protects without the interpreter
}

#[pymethods]
impl SrtpSender {
    #[new]
    fn new(key: &[u8], profile: &str) -> PyResult<Self> {
        let (rtp, rtcp) = both_keys(key, profile)?;
        Ok(Self { state: Arc::new(Mutex::new(Sender { rtp, rtcp, streams: Streams::new() })) })
    }

    /// RTP → SRTP.
    fn protect_rtp<'py>(&self, py: Python<'py>, packet: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let mut buffer = with_room(packet);
        lock_state(&self.state).protect_rtp(&mut buffer, 0)?;
        Ok(PyBytes::new(py, &buffer))
    }

    /// Compound or reduced-size RTCP → SRTCP.
    fn protect_rtcp<'py>(&self, py: Python<'py>, packet: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let mut buffer = with_room(packet);
        lock_state(&self.state).protect_rtcp(&mut buffer)?;
        Ok(PyBytes::new(py, &buffer))
    }
}

/// A copy with room for a trailer.
fn with_room(packet: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(packet.len() + 20);
    buffer.extend_from_slice(packet);
    buffer
}

/// Opens what the peer sends. `key` is the peer's master key followed by its master salt.
#[pyclass(frozen, module = "relaymesh_native.srtp")]
pub struct SrtpReceiver {
    state: Mutex<Receiver>,
}

#[pymethods]
impl SrtpReceiver {
    #[new]
    fn new(key: &[u8], profile: &str) -> PyResult<Self> {
        let (rtp, rtcp) = both_keys(key, profile)?;
        Ok(Self { state: Mutex::new(Receiver { rtp, rtcp, streams: Streams::new() }) })
    }

    /// SRTP → RTP.
    fn unprotect_rtp<'py>(&self, py: Python<'py>, packet: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let mut buffer = bounded(packet);
        lock_state(&self.state).unprotect_rtp(&mut buffer)?;
        Ok(PyBytes::new(py, &buffer))
    }

    /// SRTCP → RTCP.
    fn unprotect_rtcp<'py>(&self, py: Python<'py>, packet: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let mut buffer = bounded(packet);
        lock_state(&self.state).unprotect_rtcp(&mut buffer)?;
        Ok(PyBytes::new(py, &buffer))
    }
}

/// A copy of as much as it takes to see that a packet is too long.
fn bounded(packet: &[u8]) -> Vec<u8> {
    packet[..packet.len().min(BUFFER_BYTES + 1)].to_vec()
}
