//! Batches of datagrams on a non-blocking UDP socket: `relaymesh/kernels/udp_reference.py` describes them.

use std::cell::RefCell;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::datagrams::{Wire, parse};

const RECEIVE_BYTES: usize = 2048; // of a datagram; a longer one is cut, so that it shows as oversized
const BUFFER_BYTES: usize = 65_536; // the longest train

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// Let the socket join trains of datagrams where the kernel can; return whether it does.
#[pyfunction]
pub fn enable_gro(fileno: RawFd) -> bool {
    if fileno < 0 {
        return false;
    }
    // SAFETY: the descriptor is borrowed for this call only, and -1 was excluded; a closed one gives EBADF.
    let socket = unsafe { BorrowedFd::borrow_raw(fileno) };
    setsockopt(&socket, sockopt::UdpGroSegment, &true).is_ok()
}

/// What the socket holds: (data, (host, port)) of at most `limit` datagrams and the rest of a train, or none.
#[pyfunction]
pub fn receive(py: Python<'_>, fileno: RawFd, limit: usize) -> PyResult<Bound<'_, PyList>> {
    BUFFER.with_borrow_mut(|buffer| {
        let batch = PyList::empty(py);
        let mut last: Option<(SocketAddr, Bound<'_, PyTuple>)> = None;
        for _ in 0..limit {
            let (size, segment, source) = match receive_message(fileno, buffer) {
                Ok(message) => message,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EBADF | Errno::ENOTSOCK) => return Err(PyOSError::new_err("no socket")),
                Err(_) => continue, // an ICMP error of an earlier send; it concerns no datagram here
            };
            let Some(source) = source else { continue };
            let address = match &last {
                Some((known, tuple)) if *known == source => tuple.clone(),
                _ => {
                    let tuple = (host(&source), source.port()).into_pyobject(py)?;
                    last.insert((source, tuple)).1.clone()
                }
            };
            let add = |data: &[u8]| {
                let data = PyBytes::new(py, &data[..data.len().min(RECEIVE_BYTES)]);
                batch.append((data, &address))
            };
            if size == 0 {
                add(&[])?;
            }
            for data in buffer[..size].chunks(segment.unwrap_or(BUFFER_BYTES)) {
                add(data)?;
            }
            if batch.len() >= limit {
                break;
            }
        }
        Ok(batch)
    })
}

/// Room for one control message of an int, at an address where the kernel's structs may stand.
#[repr(align(8))]
struct Control([u8; 64]);

/// The size of the next datagram or train, how long a train's datagrams are, and where it came from.
fn receive_message(
    fileno: RawFd,
    buffer: &mut [u8],
) -> Result<(usize, Option<usize>, Option<SocketAddr>), Errno> {
    let mut control = Control([0; 64]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(fileno, &mut parts, Some(&mut control.0), MsgFlags::MSG_DONTWAIT)?;
    let mut segment = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::UdpGroSegments(size) = control {
            segment = usize::try_from(size).ok().filter(|size| *size > 0);
        }
    }
    Ok((message.bytes, segment, message.address.as_ref().and_then(socket_address)))
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}

/// As the C library writes it: with the interface's name where an address needs one.
fn host(address: &SocketAddr) -> String {
    match (address.ip(), address) {
        (IpAddr::V6(ip), SocketAddr::V6(full)) if full.scope_id() != 0 => {
            let name =
                nix::net::if_::if_indextoname(full.scope_id()).ok().and_then(|name| name.into_string().ok());
            format!("{ip}%{}", name.unwrap_or_else(|| full.scope_id().to_string()))
        }
        (ip, _) => ip.to_string(),
    }
}

/// Send datagrams in order, each (data, (host, port)); return how many could not be sent.
#[pyfunction]
pub fn send(fileno: RawFd, datagrams: &Bound<'_, PyAny>) -> PyResult<usize> {
    let mut wire = Wire::default();
    let mut failures = 0;
    let mut last: Option<(Bound<'_, PyAny>, Option<SockaddrStorage>)> = None;
    for datagram in datagrams.try_iter()? {
        let (data, address): (Bound<'_, PyBytes>, Bound<'_, PyAny>) = datagram?.extract()?;
        let parsed = match &last {
            Some((known, parsed)) if known.is(&address) => *parsed,
            _ => {
                let parsed = parse(&address);
                last = Some((address, parsed));
                parsed
            }
        };
        let Some(parsed) = parsed else {
            failures += 1;
            continue;
        };
        let start = wire.bytes.len();
        wire.bytes.extend_from_slice(data.as_bytes());
        wire.add(start, &parsed);
        if wire.bytes.len() >= Wire::ENOUGH_BYTES {
            failures += wire.send(fileno);
        }
    }
    Ok(failures + wire.send(fileno))
}
