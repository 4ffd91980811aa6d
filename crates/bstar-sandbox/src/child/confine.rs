//! The program's process: takes its descriptors, confines itself, and becomes the command.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Gid, Resource, Rlimit, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::child::keep::Inside;
use crate::child::{calls, files};
use crate::level::Namespaces;
use crate::system;
use crate::wire::{Failure, Layer, Spec, Step};

/// Where commands are looked for by a program that starts others.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Becomes the command. Comes back only with a failure, or with nothing if there is no command.
pub(super) fn enter(spec: &Spec, inside: &Inside, folder: &Path) -> Option<Failure> {
    if let Err(failure) = confine(spec, inside, folder) {
        return Some(failure);
    }
    let (program, args) = spec.command.split_first()?;
    let error = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .exec();
    let step = format!("execute {}", Path::new(program).display());
    Some(Failure::new(Layer::Other, step, &error))
}

fn confine(spec: &Spec, inside: &Inside, folder: &Path) -> Result<(), Failure> {
    rustix::process::setsid().step(Layer::Other, "begin a session")?;
    std::env::set_current_dir(folder).step(Layer::Other, "enter the working folder")?;
    // Before anything is opened here, which might get a number that belongs to the program.
    for (descriptor, number) in &inside.descriptors {
        system::place(descriptor.as_fd(), *number).step(Layer::Other, "place a descriptor")?;
    }
    let files = files::prepare(spec, folder)?;
    let calls = calls::prepare(spec, std::process::id())?;
    limit(spec, inside.identity.is_some()).step(Layer::Other, "set resource limits")?;
    if let Some(id) = inside.identity {
        drop_root(id).step(Layer::Identity, "become an unused user")?;
    }
    // After the change of user, which forgets it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step(Layer::Other, "tie the program to the keeper")?;
    drop_capabilities().step(Layer::Other, "drop capabilities")?;
    files.enforce()?;
    calls.map_or(Ok(()), |calls| calls.enforce())
}

fn drop_root(id: u32) -> rustix::io::Result<()> {
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)
}

/// Gives up every power, for good: no program it executes can gain any.
fn drop_capabilities() -> rustix::io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    let (effective, permitted, inheritable) =
        (CapabilitySet::empty(), CapabilitySet::empty(), CapabilitySet::empty());
    rustix::thread::set_capabilities(None, CapabilitySets { effective, permitted, inheritable })
}

/// The limits that the kernel holds for each process.
fn limit(spec: &Spec, own_user: bool) -> rustix::io::Result<()> {
    let limits = &spec.limits;
    // A lower limit that is there already stays.
    let set = |resource, soft: u64, hard: u64| {
        let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let (current, maximum) = (Some(soft.min(most)), Some(hard.min(most)));
        rustix::process::setrlimit(resource, Rlimit { current, maximum })
    };
    // The supervisor watches the sum to the millisecond; this is for the case that it cannot.
    let seconds = limits.cpu.as_secs() + 1;
    set(Resource::Cpu, seconds, seconds + 1)?;
    set(Resource::As, limits.memory, limits.memory)?;
    set(Resource::Fsize, limits.file_size, limits.file_size)?;
    set(Resource::Core, 0, 0)?;
    let processes = match spec.level.namespaces {
        _ if own_user => limits.processes,
        // The keeper and the process before it count.
        Namespaces::Full => limits.processes + 2,
        // All processes of this user count, whoever started them; the supervisor watches as well.
        _ => limits.processes + tasks_of_the_host(),
    };
    set(Resource::Nproc, processes, processes)?;
    set(Resource::Nofile, limits.open_files, limits.open_files)
}

/// Processes and threads of all users.
fn tasks_of_the_host() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let total = text.split_whitespace().nth(3).and_then(|field| field.split_once('/'));
    total.and_then(|(_, total)| total.parse().ok()).unwrap_or(1024)
}
