//! Finds the best level that holds: tries all layers together, and leaves out what fails.

use std::time::Duration;

use crate::child::supervise;
use crate::level::{Identity, Layers, Level, Namespaces};
use crate::program::Limits;
use crate::system;
use crate::wire::{Failure, Layer, Place, Spec};

/// The best level of these layers.
pub(super) fn probe(layers: Layers, place: &Place) -> Result<Level, Failure> {
    let mut level = wanted(layers);
    loop {
        let spec = Spec {
            level: level.clone(),
            place: place.clone(),
            command: Vec::new(),
            stdin: Vec::new(),
            files: Vec::new(),
            env: Vec::new(),
            numbers: Vec::new(),
            limits: Limits { wall: Duration::from_secs(5), ..Limits::default() },
        };
        let Err(failure) = supervise::run(&spec, Vec::new(), None) else { return Ok(level) };
        lower(&mut level, &failure)?;
        level.reasons.push(format!("failed to {}: {}", failure.step, failure.what));
    }
}

/// What would hold if every call succeeded.
fn wanted(layers: Layers) -> Level {
    let root = rustix::process::geteuid().is_root();
    let namespaces = match (layers.namespaces, layers.user_namespace) {
        (true, true) => Namespaces::Full,
        (true, false) if root => Namespaces::WithoutUser,
        _ => Namespaces::None,
    };
    let identity = match (root, layers.identity) {
        (false, _) => Identity::Own,
        (true, true) => Identity::Unused,
        (true, false) => Identity::Root,
    };
    let landlock = layers.landlock.min(system::landlock_version());
    let arch = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    let (seccomp, limits) = (layers.seccomp && arch, true);
    Level { namespaces, landlock, seccomp, limits, identity, reasons: Vec::new() }
}

/// Leaves out the layer that failed; other failures are not of a layer.
fn lower(level: &mut Level, failure: &Failure) -> Result<(), Failure> {
    match failure.layer {
        Layer::Namespaces if level.namespaces == Namespaces::Full => {
            level.namespaces = match level.identity {
                Identity::Own => Namespaces::None,
                Identity::Unused | Identity::Root => Namespaces::WithoutUser,
            };
        }
        Layer::Namespaces if level.namespaces == Namespaces::WithoutUser => {
            level.namespaces = Namespaces::None;
        }
        Layer::Landlock if level.landlock > 0 => level.landlock = 0,
        Layer::Seccomp if level.seccomp => level.seccomp = false,
        Layer::Identity if level.identity == Identity::Unused => level.identity = Identity::Root,
        _ => return Err(failure.clone()),
    }
    Ok(())
}
