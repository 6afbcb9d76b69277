//! What sends many datagrams in few system calls: trains by UDP generic segmentation offload, many of them by
//! one sendmmsg. It never waits.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::RawFd;
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockaddrLike, SockaddrStorage, getsockname};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

const TRAIN_DATAGRAMS: usize = 64; // Linux's UDP_MAX_SEGMENTS of old
const TRAIN_BYTES: usize = 65_000; // an IP packet is 65,535 with its headers
const CALL_MESSAGES: usize = 1024; // what sendmmsg takes at most: UIO_MAXIOV

/// The socket address that `address`, a tuple (host, port), names by a literal; None where it names none.
pub fn parse(address: &Bound<'_, PyAny>) -> Option<SockaddrStorage> {
    let tuple = address.cast::<PyTuple>().ok()?;
    if tuple.len() != 2 {
        return None;
    }
    let host = tuple.get_item(0).ok()?;
    let host = host.cast::<PyString>().ok()?.to_cow().ok()?;
    let port = tuple.get_item(1).ok()?.extract::<u16>().ok()?;
    parse_literal(&host, port).map(SockaddrStorage::from)
}

fn parse_literal(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(v4) = host.parse::<Ipv4Addr>() {
        return Some(SocketAddr::new(IpAddr::V4(v4), port));
    }
    let (host, scope) = host.split_once('%').unwrap_or((host, ""));
    let v6 = host.parse::<Ipv6Addr>().ok()?;
    let scope = match scope {
        "" => 0,
        name => nix::net::if_::if_nametoindex(name).ok().or_else(|| name.parse().ok())?,
    };
    Some(SocketAddrV6::new(v6, port, 0, scope).into())
}

/// Datagrams of one size (the last may be shorter) for one address, as a range of a `Wire`'s bytes.
struct Train {
    start: usize,
    end: usize,
    segment: usize,
    datagrams: usize,
    address: SockaddrStorage,
}

impl Train {
    fn takes(&self, size: usize, address: &SockaddrStorage) -> bool {
        self.segment > 0
            && (1..=self.segment).contains(&size)
            && self.end - self.start == self.segment * self.datagrams
            && self.datagrams < TRAIN_DATAGRAMS
            && self.end - self.start + size <= TRAIN_BYTES
            && self.address == *address
    }
}

/// Datagrams that wait to be sent, one behind the other.
#[derive(Default)]
pub struct Wire {
    pub bytes: Vec<u8>,
    trains: Vec<Train>,
}

impl Wire {
    /// After so many it is time to send.
    pub const ENOUGH_BYTES: usize = 1 << 20;

    /// The bytes from `start` to the end are a datagram for `address`.
    pub fn add(&mut self, start: usize, address: &SockaddrStorage) {
        let (end, size) = (self.bytes.len(), self.bytes.len() - start);
        if let Some(train) = self.trains.last_mut()
            && train.end == start
            && train.takes(size, address)
        {
            train.end = end;
            train.datagrams += 1;
            return;
        }
        self.trains.push(Train { start, end, segment: size, datagrams: 1, address: *address });
    }

    /// Send all; return how many datagrams could not be sent. The wire is empty then.
    pub fn send(&mut self, fileno: RawFd) -> usize {
        let mut failures = 0;
        if !self.trains.is_empty() {
            let Ok(own) = getsockname::<SockaddrStorage>(fileno) else {
                failures = self.trains.iter().map(|train| train.datagrams).sum();
                self.clear();
                return failures;
            };
            // Linux would send from an IPv6 socket to an IPv4 address; the reference does not.
            let family = own.family();
            self.trains.retain(|train| {
                let fits = train.address.family() == family;
                failures += if fits { 0 } else { train.datagrams };
                fits
            });
            failures += transmit(fileno, &self.bytes, &self.trains);
        }
        self.clear();
        failures
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.trains.clear();
    }
}

/// How long the kernel's segments are to be, as a control message of sendmsg.
#[repr(C)]
struct SegmentSize {
    header: libc::cmsghdr,
    bytes: u16,
    padding: [u8; 6], // to the alignment of a control message
}

impl SegmentSize {
    fn of(bytes: usize) -> Self {
        // SAFETY: a C struct of integers, for which zeros are valid; some libraries have padding fields in it.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_len = (mem::size_of::<libc::cmsghdr>() + mem::size_of::<u16>()) as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        Self { header, bytes: bytes as u16, padding: [0; 6] }
    }
}

fn transmit(fileno: RawFd, bytes: &[u8], trains: &[Train]) -> usize {
    let mut failures = 0;
    let mut at = 0;
    while at < trains.len() {
        let chunk = &trains[at..trains.len().min(at + CALL_MESSAGES)];
        match send_messages(fileno, bytes, chunk) {
            Ok(sent) => at += sent,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                // The socket's buffer is full: what is left would only fill the next moment's.
                return failures + trains[at..].iter().map(|train| train.datagrams).sum::<usize>();
            }
            Err(_) => {
                let train = &trains[at];
                failures += if train.datagrams == 1 { 1 } else { send_singly(fileno, bytes, train) };
                at += 1;
            }
        }
    }
    failures
}

/// What the kernel does not cut up: it cannot, or the segments are longer than the route's MTU.
fn send_singly(fileno: RawFd, bytes: &[u8], train: &Train) -> usize {
    let singles: Vec<Train> = (train.start..train.end)
        .step_by(train.segment)
        .map(|start| Train {
            start,
            end: train.end.min(start + train.segment),
            segment: train.segment,
            datagrams: 1,
            address: train.address,
        })
        .collect();
    transmit(fileno, bytes, &singles)
}

/// One sendmmsg; how many of `trains` went out, at least one, or the error of the first.
fn send_messages(fileno: RawFd, bytes: &[u8], trains: &[Train]) -> Result<usize, Errno> {
    let mut parts: Vec<libc::iovec> = trains
        .iter()
        .map(|train| libc::iovec {
            iov_base: bytes[train.start..train.end].as_ptr().cast_mut().cast(),
            iov_len: train.end - train.start,
        })
        .collect();
    let mut controls: Vec<SegmentSize> = trains.iter().map(|train| SegmentSize::of(train.segment)).collect();
    let mut messages: Vec<libc::mmsghdr> = Vec::with_capacity(trains.len());
    for (at, train) in trains.iter().enumerate() {
        // SAFETY: a C struct of integers and pointers, for which zeros are valid.
        let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
        let header = &mut message.msg_hdr;
        header.msg_name = ptr::from_ref(&train.address).cast_mut().cast();
        header.msg_namelen = train.address.len();
        header.msg_iov = &mut parts[at];
        header.msg_iovlen = 1;
        if train.datagrams > 1 {
            header.msg_control = ptr::from_mut(&mut controls[at]).cast();
            header.msg_controllen = mem::size_of::<SegmentSize>() as _;
        }
        messages.push(message);
    }
    // SAFETY: every pointer in `messages` leads into `parts`, `controls`, `trains` or `bytes`, which live and
    // stay where they are until the call returns; the kernel writes to `messages` only.
    let sent = unsafe {
        libc::sendmmsg(fileno, messages.as_mut_ptr(), messages.len() as _, libc::MSG_DONTWAIT as _)
    };
    Errno::result(sent).map(|sent| sent as usize)
}
