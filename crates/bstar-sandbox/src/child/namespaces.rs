//! Namespaces: their making and the user ids in them.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::unistd::ForkResult;
use rustix::process::{DumpableBehavior, Signal};

use crate::child::keep::{GO, Inside, Note};
use crate::child::root;
use crate::level::Namespaces;
use crate::system;
use crate::wire::{Failure, Layer, Spec, Step};

/// The program's user and group id inside a user namespace.
const NOBODY: u32 = 65534;

/// Goes into the namespaces. Returns in a new process, the first in them, with the working folder;
/// the calling process only waits for it.
pub(super) fn enter(spec: &Spec, inside: &mut Inside) -> Result<PathBuf, Failure> {
    let full = spec.level.namespaces == Namespaces::Full;
    // The supervisor writes this process's id maps, which an undumpable process does not offer.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .step(Layer::Namespaces, "open up for the supervisor")?;
    unshare(full).step(Layer::Namespaces, "unshare namespaces")?;
    if full {
        inside.link.tell(&Note::Unshared);
        if inside.link.next_order() != Some(GO) {
            system::leave(1);
        }
        inside.identity = inside.identity.map(|_| NOBODY);
    }
    let tie = || -> rustix::io::Result<()> {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
    };
    tie().step(Layer::Namespaces, "tie the keeper to the supervisor")?;
    match system::fork().step(Layer::Namespaces, "fork the keeper")? {
        ForkResult::Parent { child } => {
            inside.descriptors.clear();
            let _ = nix::sys::wait::waitpid(child, None);
            system::leave(0)
        }
        ForkResult::Child => {
            tie().step(Layer::Namespaces, "tie the keeper to the supervisor")?;
            if full {
                forbid_more();
            }
            root::build(spec, inside.identity)
        }
    }
}

fn unshare(user: bool) -> nix::Result<()> {
    let mut flags = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    flags.set(CloneFlags::CLONE_NEWUSER, user);
    nix::sched::unshare(flags)
}

/// No user namespaces inside this one. Best effort, as `/proc/sys` is read-only in some containers:
/// the filter of system calls forbids them as well.
fn forbid_more() {
    let _ = fs::write("/proc/sys/user/max_user_namespaces", "0");
}

/// Gives the process that unshared its user ids, from outside. `identity` is the unused id for the
/// program, for which this process must be root.
pub(super) fn map_identities(child: i32, identity: Option<u32>) -> Result<(), Failure> {
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (users, groups) = match identity {
        // The keeper stays the outer root, so that it can reach what only root may read.
        Some(unused) => {
            let map = format!("0 0 1\n{NOBODY} {unused} 1\n");
            (map.clone(), map)
        }
        None => (format!("{NOBODY} {} 1\n", me.0), format!("{NOBODY} {} 1\n", me.1)),
    };
    let write = |name: &str, text: &str| {
        fs::write(Path::new("/proc").join(child.to_string()).join(name), text)
            .step(Layer::Namespaces, &format!("write {name}"))
    };
    if identity.is_none() {
        write("setgroups", "deny")?;
    }
    write("uid_map", &users)?;
    write("gid_map", &groups)
}
