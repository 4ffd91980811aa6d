//! The filter of system calls: what a program has no business with is refused.
//!
//! It is a list of what is denied. Calls that reach other processes, the network, kernel interfaces
//! with a history of holes, or memory that no limit counts are on it.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is,
    SeccompCondition, SeccompFilter, SeccompRule, sock_filter,
};

use crate::level::{Identity, Namespaces};
use crate::wire::{Failure, Layer, Spec, Step};

/// Refused whatever the arguments.
const DENIED: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    // The network; pairs of connected sockets are dealt with below.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Kernel interfaces with a history.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_personality,
    libc::SYS_lookup_dcookie,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_unshare,
    libc::SYS_setns,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    // Memory that neither the address space nor the file system counts, and that may outlive us.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// As above, where only this processor has the call.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[c_long] = &[
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[c_long] = &[];

/// Flags of `clone` that make a namespace.
const NAMESPACE_FLAGS: [i32; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The two filters of a program, ready to be put on.
pub(super) struct Filters([BpfProgram; 2]);

/// Writes the filters. `own` is the id of the process that will put them on.
pub(super) fn prepare(spec: &Spec, own: u32) -> Result<Option<Filters>, Failure> {
    if !spec.level.seccomp {
        return Ok(None);
    }
    let denied = denied(spec, own).step(Layer::Seccomp, "write the filter of system calls")?;
    Ok(Some(Filters([denied, unknown()])))
}

impl Filters {
    /// Filters this process for good.
    pub(super) fn enforce(&self) -> Result<(), Failure> {
        for filter in &self.0 {
            seccompiler::apply_filter(filter).step(Layer::Seccomp, "filter system calls")?;
        }
        Ok(())
    }
}

fn denied(spec: &Spec, own: u32) -> Result<BpfProgram, BackendError> {
    let mut rules: Rules =
        DENIED.iter().chain(DENIED_HERE).map(|&call| (call, Vec::new())).collect();
    for flag in NAMESPACE_FLAGS {
        let flag = u64::from(flag.cast_unsigned());
        add(&mut rules, libc::SYS_clone, &[(0, Is::MaskedEq(flag), flag)])?;
    }
    // A connected pair of streams reaches nothing; a datagram socket can name any address.
    let local = libc::AF_UNIX.cast_unsigned().into();
    add(&mut rules, libc::SYS_socketpair, &[(0, Is::Ne, local)])?;
    for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET] {
        let kind = u64::from(kind.cast_unsigned());
        add(&mut rules, libc::SYS_socketpair, &[(1, Is::MaskedEq(0xf), kind)])?;
    }
    // Typing into a terminal, and pasting into a console.
    add(&mut rules, libc::SYS_ioctl, &[(1, Is::Eq, 0x5412)])?;
    add(&mut rules, libc::SYS_ioctl, &[(1, Is::Eq, 0x541c)])?;
    // Limits and processors of other processes of the same user.
    add(&mut rules, libc::SYS_prlimit64, &[(0, Is::Ne, 0)])?;
    add(&mut rules, libc::SYS_sched_setaffinity, &[(0, Is::Ne, 0)])?;
    if spec.level.namespaces == Namespaces::None {
        // All its processes stay in one group, which can be killed at one stroke.
        rules.insert(libc::SYS_setsid, Vec::new());
        rules.insert(libc::SYS_setpgid, Vec::new());
        if spec.level.identity != Identity::Unused {
            forbid_changes_of_files(&mut rules, spec.level.landlock)?;
        }
        if spec.level.landlock < 6 && spec.level.identity != Identity::Unused {
            forbid_signals(&mut rules, own)?;
        }
    }
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
}

/// Landlock does not govern modes, owners, times and attributes, so the user's own files would be
/// open to such changes by path. An open descriptor is of a file that Landlock allowed.
fn forbid_changes_of_files(rules: &mut Rules, landlock: u8) -> Result<(), BackendError> {
    /// Newer than the lists of the `libc` crate; the same numbers everywhere.
    const SYS_FCHMODAT2: c_long = 452;
    const SYS_SETXATTRAT: c_long = 463;
    const SYS_REMOVEXATTRAT: c_long = 466;
    const SYS_FILE_SETATTR: c_long = 469;
    for call in [
        libc::SYS_fchmodat,
        SYS_FCHMODAT2,
        libc::SYS_fchownat,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_inotify_add_watch,
        SYS_SETXATTRAT,
        SYS_REMOVEXATTRAT,
        SYS_FILE_SETATTR,
    ] {
        rules.insert(call, Vec::new());
    }
    #[cfg(target_arch = "x86_64")]
    for call in [
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_futimesat,
    ] {
        rules.insert(call, Vec::new());
    }
    if landlock < 3 {
        rules.insert(libc::SYS_truncate, Vec::new());
    }
    let by_path = SeccompCondition::new(1, Width::Qword, Is::Ne, 0)?;
    rules.insert(libc::SYS_utimensat, vec![SeccompRule::new(vec![by_path])?]);
    Ok(())
}

/// `F_SETOWN_EX`, which the `libc` crate lacks.
const SET_OWNER_EX: i32 = 15;

/// Where nothing else protects the user's processes: signals to itself and its own group only.
fn forbid_signals(rules: &mut Rules, own: u32) -> Result<(), BackendError> {
    let own = u64::from(own);
    add(rules, libc::SYS_kill, &[(0, Is::Ne, own), (0, Is::Ne, 0)])?;
    add(rules, libc::SYS_tgkill, &[(0, Is::Ne, own)])?;
    for call in [
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_pidfd_send_signal,
    ] {
        rules.insert(call, Vec::new());
    }
    // A descriptor can be told to send signals on its own.
    for command in [libc::F_SETOWN, SET_OWNER_EX] {
        let command = u64::from(command.cast_unsigned());
        add(rules, libc::SYS_fcntl, &[(1, Is::Eq, command)])?;
    }
    Ok(())
}

/// Refuses a call when all conditions (argument, comparison, value) hold.
fn add(rules: &mut Rules, call: c_long, conditions: &[(u8, Is, u64)]) -> Result<(), BackendError> {
    let conditions = conditions
        .iter()
        .map(|(argument, is, value)| {
            SeccompCondition::new(*argument, Width::Dword, is.clone(), *value)
        })
        .collect::<Result<Vec<_>, _>>()?;
    rules.entry(call).or_default().push(SeccompRule::new(conditions)?);
    Ok(())
}

/// Calls that do not exist: `clone3`, whose flags a filter cannot read (the C library falls back to
/// `clone`), and the second set of numbers for 32-bit pointers on x86-64, which would pass by the
/// other filter. That one has checked the architecture.
fn unknown() -> BpfProgram {
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const FIRST_X32: u32 = 0x4000_0000;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let clone3 = u32::try_from(libc::SYS_clone3).expect("numbers of system calls are small");
    vec![
        instruction(LOAD, 0, 0, 0),
        instruction(IF_AT_LEAST, 1, 0, FIRST_X32),
        instruction(IF_EQUAL, 0, 1, clone3),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
