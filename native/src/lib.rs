//! RelayMesh's kernels, compiled. Each module does what its Python reference in `relaymesh/kernels/` does, byte
//! for byte; the references say why, and the tests in `tests/kernels/` run over both.

mod aead;
mod datagrams;
mod fan_out;
mod gf256;
mod keys;
mod paths;
mod srtp;
mod udp;

use pyo3::prelude::*;

#[pymodule]
mod relaymesh_native {
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    #[pymodule]
    mod aead {
        #[pymodule_export]
        use crate::aead::{Opener, Sealer, open_batch, seal_batch};
    }

    #[pymodule]
    mod srtp {
        #[pymodule_export]
        use crate::srtp::{SrtpFailure, SrtpReceiver, SrtpSender};
    }

    #[pymodule]
    mod udp {
        #[pymodule_export]
        use crate::udp::{enable_gro, receive, send};
    }

    #[pymodule]
    mod gf256 {
        #[pymodule_export]
        use crate::gf256::combine;
    }

    #[pymodule]
    mod fan_out {
        #[pymodule_export]
        use crate::fan_out::{FanOut, Group};
        #[pymodule_export]
        use crate::paths::{Path, Stream};
    }
}
