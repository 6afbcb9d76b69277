//! One packet in, one for each subscriber out: assign in Python's turn, seal and send without the interpreter.
//! `relaymesh/kernels/fan_out_reference.py` describes it.

use std::mem;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::datagrams::Wire;
use crate::paths::{Exit, Path, Stream};
use crate::srtp::lock_state;

const HEADER_BYTES: usize = 12; // RFC 3550 § 5.1, without CSRCs
const SPATIAL_LAYERS: i64 = 7; // the number of the last says "all": nothing above it is left out
const NONE: usize = usize::MAX;

/// One packet that is assigned to one stream.
struct Job {
    header: [u8; HEADER_BYTES],
    block: (usize, usize), // range of `Batch::bytes`
    payload: (usize, usize),
    number: Option<(usize, u16)>,  // where in the block, and the value
    frame: Option<(usize, u16)>,   // likewise
    picture: Option<(usize, u16)>, // where in the payload, and the two bytes
    short_picture: Option<(usize, u8)>,
    tl0: Option<(usize, u8)>,
    bucket: usize,
    next: usize, // of the same bucket
}

/// The packets of one path, linked in their order.
struct Bucket {
    exit: Exit,
    first: usize,
    last: usize,
}

/// What was assigned since the last flush. Payloads and blocks are kept once for all streams.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    jobs: Vec<Job>,
    buckets: Vec<Bucket>,
}

impl Batch {
    fn keep(&mut self, data: &[u8]) -> (usize, usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        (start, self.bytes.len())
    }

    /// Let a packet wait behind those of its path, whose bucket is made where there is none yet.
    fn push(&mut self, py: Python<'_>, batch: u64, path: &mut Path, job: Job) {
        let bucket = path.bucket_in(batch).unwrap_or_else(|| {
            let exit = path.exit(py).expect("a path that takes packets has an address");
            self.buckets.push(Bucket { exit, first: NONE, last: NONE });
            path.use_bucket(batch, self.buckets.len() - 1);
            self.buckets.len() - 1
        });
        let at = self.jobs.len();
        let waiting = &mut self.buckets[bucket];
        if waiting.last == NONE {
            waiting.first = at;
        } else {
            self.jobs[waiting.last].next = at;
        }
        waiting.last = at;
        self.jobs.push(Job { bucket, next: NONE, ..job });
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.jobs.clear();
        self.buckets.clear();
    }

    /// Append `job`, sealed, to `wire`; false where the SRTP kernel refuses it.
    fn seal(&self, job: &Job, exit: &Exit, wire: &mut Vec<u8>) -> bool {
        let start = wire.len();
        wire.extend_from_slice(&job.header);
        wire.extend_from_slice(&self.bytes[job.block.0..job.block.1]);
        if let Some((offset, number)) = job.number {
            let at = start + HEADER_BYTES + offset;
            wire[at..at + 2].copy_from_slice(&number.to_be_bytes());
        }
        if let Some((offset, number)) = job.frame {
            let at = start + HEADER_BYTES + offset;
            wire[at..at + 2].copy_from_slice(&number.to_be_bytes());
        }
        let body = wire.len();
        wire.extend_from_slice(&self.bytes[job.payload.0..job.payload.1]);
        if let Some((offset, picture)) = job.picture {
            wire[body + offset..body + offset + 2].copy_from_slice(&picture.to_be_bytes());
        }
        for (offset, byte) in job.short_picture.iter().chain(&job.tl0) {
            wire[body + offset] = *byte;
        }
        let Some(sender) = &exit.sender else { return true };
        let sealed = lock_state(sender).protect_rtp(wire, start).is_ok();
        if !sealed {
            wire.truncate(start);
        }
        sealed
    }

    /// Seal and send all, the packets of one path behind each other; (failures, packets refused).
    fn send(&self, fileno: RawFd, wire: &mut Wire) -> (usize, u64) {
        let (mut failures, mut unsealed) = (0, 0);
        for bucket in &self.buckets {
            let mut at = bucket.first;
            while at != NONE {
                let job = &self.jobs[at];
                let start = wire.bytes.len();
                if !self.seal(job, &bucket.exit, &mut wire.bytes) {
                    unsealed += 1;
                } else if let Some(target) = &bucket.exit.target {
                    wire.add(start, target);
                } else {
                    wire.bytes.truncate(start);
                    failures += 1;
                }
                at = job.next;
            }
            if wire.bytes.len() >= Wire::ENOUGH_BYTES {
                failures += wire.send(fileno);
            }
        }
        (failures + wire.send(fileno), unsealed)
    }
}

/// Tells batches of all fan-outs apart, so that a stream knows which one its bucket is of. 0 is none.
static BATCHES: AtomicU64 = AtomicU64::new(1);

/// Packets for many subscribers, from assignment to sending.
#[pyclass(module = "relaymesh_native.fan_out")]
pub struct FanOut {
    size_overhead: u64,
    #[pyo3(get, set)]
    unsealed: u64,
    number: u64,
    batch: Batch,
    wire: Wire,
}

impl FanOut {
    fn take(&mut self) -> Batch {
        self.number = BATCHES.fetch_add(1, Ordering::Relaxed);
        mem::take(&mut self.batch)
    }

    /// Keep the memory of `batch` for the next, unless something was assigned meanwhile.
    fn give_back(&mut self, mut batch: Batch) {
        batch.clear();
        if self.batch.jobs.is_empty() {
            self.batch = batch;
        }
    }
}

#[pymethods]
impl FanOut {
    #[new]
    fn new(size_overhead: u64) -> Self {
        Self {
            size_overhead,
            unsealed: 0,
            number: BATCHES.fetch_add(1, Ordering::Relaxed),
            batch: Batch::default(),
            wire: Wire::default(),
        }
    }

    /// A new group of streams, which feed this fan-out.
    fn group(slf: Py<Self>) -> Group {
        Group { fan_out: slf, streams: Vec::new() }
    }

    fn __len__(&self) -> usize {
        self.batch.jobs.len()
    }

    /// Let a whole RTP packet go on *path*, behind what was assigned to it.
    fn put(&mut self, path: &Bound<'_, Path>, packet: &[u8]) -> PyResult<()> {
        let Some((&header, rest)) = packet.split_first_chunk::<HEADER_BYTES>() else {
            return Err(PyValueError::new_err("a packet has a header of 12 bytes at least"));
        };
        let mut way = path.borrow_mut();
        if !way.leaves() {
            return Ok(());
        }
        let payload = self.batch.keep(rest);
        let job = Job {
            header,
            block: (0, 0),
            payload,
            number: None,
            frame: None,
            picture: None,
            short_picture: None,
            tl0: None,
            bucket: NONE,
            next: NONE,
        };
        self.batch.push(path.py(), self.number, &mut way, job);
        Ok(())
    }

    /// What was assigned, sealed, in the order of assignment: (packet, address).
    fn pop<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let batch = self.take();
        let sealed = PyList::empty(py);
        let mut packet = Vec::new();
        for job in &batch.jobs {
            let exit = &batch.buckets[job.bucket].exit;
            packet.clear();
            if batch.seal(job, exit, &mut packet) {
                sealed.append((PyBytes::new(py, &packet), &exit.address))?;
            } else {
                self.unsealed += 1;
            }
        }
        self.give_back(batch);
        Ok(sealed)
    }

    /// Seal and send what was assigned; return how many packets could not be sent.
    fn send(slf: &Bound<'_, Self>, fileno: RawFd) -> usize {
        let (batch, mut wire) = {
            let mut this = slf.borrow_mut();
            (this.take(), mem::take(&mut this.wire))
        };
        // Without the interpreter, which another thread may have meanwhile; nothing here touches its objects.
        let (failures, unsealed) = slf.py().detach(|| batch.send(fileno, &mut wire));
        let mut this = slf.borrow_mut();
        this.unsealed += unsealed;
        this.wire = wire;
        this.give_back(batch);
        failures
    }
}

/// The streams that one encoding feeds.
#[pyclass(module = "relaymesh_native.fan_out")]
pub struct Group {
    fan_out: Py<FanOut>,
    streams: Vec<Py<Stream>>,
}

/// What a push says of a packet, for all streams.
struct Packet {
    sequence: i64,
    timestamp: i64,
    marker: bool,
    layer_end: bool,
    spatial: i64,
    temporal: i64,
    pictures: Pictures,
    now: f64,
}

/// What decoders count pictures by, as far as the payload has it: (where, the value).
#[derive(Default)]
struct Pictures {
    short_id: Option<(usize, u8)>, // of 7 bits
    id: Option<(usize, u16)>,      // of 15 bits
    tl0: Option<(usize, u8)>,
}

impl Pictures {
    fn read((at, bits, tl0_at): (isize, u8, isize), payload: &[u8]) -> PyResult<Self> {
        let outside = || PyValueError::new_err("a picture number's offset is outside of the payload");
        let mut found = Self::default();
        let place = usize::try_from(at).map_err(|_| outside());
        match bits {
            0 => (),
            7 => {
                let at = place?;
                found.short_id = Some((at, *payload.get(at).ok_or_else(outside)?));
            }
            15 => {
                let at = place?;
                let bytes = payload.get(at..at.saturating_add(2)).ok_or_else(outside)?;
                found.id = Some((at, u16::from_be_bytes([bytes[0], bytes[1]])));
            }
            _ => return Err(PyValueError::new_err("a picture ID has 7 or 15 bits")),
        }
        if let Ok(at) = usize::try_from(tl0_at) {
            found.tl0 = Some((at, *payload.get(at).ok_or_else(outside)?));
        }
        Ok(found)
    }

    /// Let `job` carry them with offsets added.
    fn move_into(&self, job: &mut Job, picture: u16, tl0: u8) {
        job.picture = self.id.map(|(at, id)| (at, 0x8000 | id.wrapping_add(picture) & 0x7FFF));
        job.short_picture = self.short_id.map(|(at, id)| (at, id.wrapping_add(picture as u8) & 0x7F));
        job.tl0 = self.tl0.map(|(at, index)| (at, index.wrapping_add(tl0)));
    }
}

/// A header extension block: its range of the batch's bytes, where the transport-wide number stands, and where a
/// frame number, with its value.
type Block = ((usize, usize), Option<usize>, Option<(usize, u16)>);

impl Packet {
    /// Assign to one stream; false where it refuses.
    fn assign(
        &self,
        stream: &Bound<'_, Stream>,
        fan_out: &mut FanOut,
        blocks: &[Block],
        payload: (usize, usize),
    ) -> PyResult<bool> {
        let py = stream.py();
        let stream = stream.borrow();
        if self.spatial > stream.spatial || self.temporal > stream.temporal {
            return Ok(false);
        }
        let &(block, offset, frame) = blocks
            .get(stream.profile)
            .ok_or_else(|| PyIndexError::new_err("the stream's profile has no block"))?;
        let mut path = stream.path_of(py);
        if !path.admits(stream.urgent, self.now) {
            return Ok(false);
        }
        let number = stream.has_number.then(|| {
            path.number = path.number.wrapping_add(1);
            path.number
        });
        let block_bytes = block.1 - block.0;
        let size = (HEADER_BYTES + block_bytes + payload.1 - payload.0) as u64 + fan_out.size_overhead;
        if !path.book(number, size, self.now) {
            return Ok(true);
        }
        let number = number.and_then(|number| offset.map(|offset| (offset, number)));
        let header = self.header(&stream, block_bytes > 0);
        let frame = frame.filter(|_| stream.frame_offset != 0);
        let mut job = Job {
            header,
            block,
            payload,
            number,
            frame: frame.map(|(at, number)| (at, number.wrapping_add(stream.frame_offset))),
            picture: None,
            short_picture: None,
            tl0: None,
            bucket: NONE,
            next: NONE,
        };
        if stream.picture_offset != 0 || stream.tl0_offset != 0 {
            self.pictures.move_into(&mut job, stream.picture_offset, stream.tl0_offset);
        }
        fan_out.batch.push(py, fan_out.number, &mut path, job);
        Ok(true)
    }

    /// RFC 3550 § 5.1.
    fn header(&self, stream: &Stream, has_block: bool) -> [u8; HEADER_BYTES] {
        let ends = self.layer_end && self.spatial == stream.spatial && self.spatial + 1 < SPATIAL_LAYERS;
        let sequence = (self.sequence as u16).wrapping_add(stream.sequence_offset);
        let timestamp = (self.timestamp as u32).wrapping_add(stream.timestamp_offset);
        let mut header = [0; HEADER_BYTES];
        header[0] = 0x80 | if has_block { 0x10 } else { 0 };
        header[1] = stream.payload_type | if self.marker || ends { 0x80 } else { 0 };
        header[2..4].copy_from_slice(&sequence.to_be_bytes());
        header[4..8].copy_from_slice(&timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&stream.ssrc.to_be_bytes());
        header
    }
}

#[pymethods]
impl Group {
    fn add(&mut self, stream: &Bound<'_, Stream>) {
        if !self.__contains__(stream) {
            self.streams.push(stream.clone().unbind());
        }
    }

    fn remove(&mut self, stream: &Bound<'_, Stream>) {
        self.streams.retain(|other| !other.is(stream));
    }

    fn __len__(&self) -> usize {
        self.streams.len()
    }

    fn __contains__(&self, stream: &Bound<'_, PyAny>) -> bool {
        self.streams.iter().any(|other| other.is(stream))
    }

    /// Assign a packet to every stream that takes it; return the owners of those that refuse, in order.
    #[allow(clippy::too_many_arguments)] // the reference's: a packet, field by field, without an object for it
    fn push<'py>(
        &self,
        py: Python<'py>,
        sequence: i64,
        timestamp: i64,
        marker: bool,
        layer_end: bool,
        spatial: i64,
        temporal: i64,
        payload: &Bound<'py, PyBytes>,
        pictures: (isize, u8, isize),
        blocks: Vec<Bound<'py, PyTuple>>,
        now: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let refused = PyList::empty(py);
        let fan_out = &mut *self.fan_out.bind(py).try_borrow_mut()?;
        let kept = fan_out.batch.bytes.len();
        let blocks = blocks
            .iter()
            .map(|block| {
                let (bytes, offset, frame_at): (Bound<'py, PyBytes>, isize, isize) = block.extract()?;
                let (offset, frame_at) = (usize::try_from(offset).ok(), usize::try_from(frame_at).ok());
                let bytes = bytes.as_bytes();
                if offset.max(frame_at).is_some_and(|last| last.saturating_add(2) > bytes.len()) {
                    return Err(PyValueError::new_err("the number's offset is outside of its block"));
                }
                let frame = frame_at.map(|at| (at, u16::from_be_bytes([bytes[at], bytes[at + 1]])));
                Ok((fan_out.batch.keep(bytes), offset, frame))
            })
            .collect::<PyResult<Vec<Block>>>()?;
        let pictures = Pictures::read(pictures, payload.as_bytes());
        let payload = fan_out.batch.keep(payload.as_bytes());
        let packet =
            Packet { sequence, timestamp, marker, layer_end, spatial, temporal, pictures: pictures?, now };
        let jobs = fan_out.batch.jobs.len();
        for stream in &self.streams {
            let stream = stream.bind(py);
            if !packet.assign(stream, fan_out, &blocks, payload)? {
                refused.append(stream.borrow().owner(py))?;
            }
        }
        if fan_out.batch.jobs.len() == jobs {
            fan_out.batch.bytes.truncate(kept); // nobody takes it
        }
        Ok(refused)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.fan_out)?;
        self.streams.iter().try_for_each(|stream| visit.call(stream))
    }

    fn __clear__(&mut self) {
        self.streams.clear();
    }
}
