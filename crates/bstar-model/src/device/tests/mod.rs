//! What runs on a device against what runs on the CPU.
//!
//! Every check takes a device. It runs on the emulated one with the other tests, and on the first card
//! with `cargo test -p bstar-model --release --features cuda -- --ignored`.

mod kernels;
mod models;

#[path = "../../../tests/goldens/mod.rs"]
mod goldens;

use super::{Device, DeviceChoice, Precision, emulator};

/// Runs a check on the emulated device, which there may be none of.
fn emulated(precision: Precision, check: impl FnOnce(&Device)) {
    if let Some(device) = emulator::device(precision) {
        check(&device);
    }
}

/// Runs a check on the card.
fn on_card(precision: Precision, check: impl FnOnce(&Device)) {
    let device = Device::open(DeviceChoice::Cuda, precision).unwrap();
    check(&device.expect("a device was asked for"));
}

/// Two tests of a check: on the emulated device, and on the card.
macro_rules! check_everywhere {
    ($emulated:ident, $on_card:ident, $precision:expr, $check:path) => {
        #[test]
        fn $emulated() {
            $crate::device::tests::emulated($precision, $check);
        }

        #[test]
        #[ignore = "needs cuda"]
        fn $on_card() {
            $crate::device::tests::on_card($precision, $check);
        }
    };
}
use check_everywhere;

/// Whether numbers agree within `tolerance · (1 + |expected|)`.
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "{what} {index}: {found} is not {expected}"
        );
    }
}
