//! Which layers hold on this host, and what that is worth.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which layers may be used. All by default; a test switches one off to play a poorer host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is one layer, on or off")]
pub struct Layers {
    /// Namespaces of any kind.
    pub namespaces: bool,
    /// A user namespace around the others; without it they need root.
    pub user_namespace: bool,
    /// The newest version of Landlock; 0 for none.
    pub landlock: u8,
    /// The filter of system calls.
    pub seccomp: bool,
    /// An unused user id for the program when this process is root.
    pub identity: bool,
}

impl Default for Layers {
    fn default() -> Self {
        Self {
            namespaces: true,
            user_namespace: true,
            landlock: u8::MAX,
            seccomp: true,
            identity: true,
        }
    }
}

/// The namespaces around a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespaces {
    /// None: it shares processes, network and the file tree with the host.
    None,
    /// Processes, network, IPC, host name and file tree, made by root without a user namespace.
    WithoutUser,
    /// All of those in a user namespace, in which further ones are forbidden.
    Full,
}

/// What holds around every program of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The namespaces.
    pub namespaces: Namespaces,
    /// The version of Landlock in use; 0 where there is none.
    pub landlock: u8,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// Whether resource limits are set. Always true on Linux.
    pub limits: bool,
    /// The account of the program.
    pub identity: Identity,
    /// Why a layer that was tried is not here, in the host's words.
    pub reasons: Vec<String>,
}

/// The account a program runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// One that nobody else uses, as this process is root.
    Unused,
    /// The account of this process, which is not root.
    Own,
    /// Root: it could not be dropped.
    Root,
}

impl Level {
    /// Whether it is at the floor or above: limits, files closed off by Landlock or by a mount
    /// namespace, filtered system calls, and not root.
    pub fn is_enough(&self) -> bool {
        self.limits
            && self.seccomp
            && (self.landlock > 0 || self.namespaces != Namespaces::None)
            && self.identity != Identity::Root
    }

    /// What is not there, in plain words with advice. Empty at the full level.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        match self.namespaces {
            Namespaces::None => missing.push(
                "no namespaces: a program sees the host's process ids and network (both are \
                 filtered); allow unprivileged user namespaces \
                 (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces, or an \
                 AppArmor profile), or give the container CAP_SYS_ADMIN",
            ),
            Namespaces::WithoutUser => missing
                .push("no user namespace: allow them (user.max_user_namespaces greater than 0)"),
            Namespaces::Full => {}
        }
        match self.landlock {
            0 => missing.push(
                "no Landlock: use Linux 5.13 or newer with `landlock` in the lsm= boot parameter, \
                 and a container profile that allows its three system calls",
            ),
            1..=3 => missing.push("an old Landlock without network rules: use Linux 6.7 or newer"),
            4..=5 => missing.push("an old Landlock without signal scopes: use Linux 6.12 or newer"),
            _ => {}
        }
        if !self.seccomp {
            missing.push(
                "no filter of system calls: use a kernel with CONFIG_SECCOMP_FILTER on x86-64 or \
                 64-bit ARM, and a container that allows seccomp",
            );
        }
        if !self.limits {
            missing.push("no resource limits: use Linux");
        }
        if self.identity == Identity::Root {
            missing.push("root cannot be dropped: start as an ordinary user");
        }
        missing
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grade = match (self.is_enough(), self.missing().is_empty()) {
            (true, true) => "full",
            (true, false) => "enough",
            (false, _) => "weak",
        };
        let mut layers = Vec::new();
        match self.namespaces {
            Namespaces::None => {}
            Namespaces::WithoutUser => layers.push("namespaces without user".to_owned()),
            Namespaces::Full => layers.push("namespaces".to_owned()),
        }
        if self.landlock > 0 {
            layers.push(format!("Landlock {}", self.landlock));
        }
        if self.seccomp {
            layers.push("seccomp".to_owned());
        }
        if self.limits {
            layers.push("limits".to_owned());
        }
        if self.identity == Identity::Unused {
            layers.push("unused user id".to_owned());
        }
        write!(out, "{grade}: {}", layers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Level {
        Level {
            namespaces: Namespaces::Full,
            landlock: 7,
            seccomp: true,
            limits: true,
            identity: Identity::Own,
            reasons: Vec::new(),
        }
    }

    #[test]
    fn a_level_reads_as_one_line() {
        assert_eq!(full().to_string(), "full: namespaces, Landlock 7, seccomp, limits");
        let poor = Level { namespaces: Namespaces::None, ..full() };
        assert_eq!(poor.to_string(), "enough: Landlock 7, seccomp, limits");
        let weak = Level { landlock: 0, ..poor };
        assert_eq!(weak.to_string(), "weak: seccomp, limits");
    }

    #[test]
    fn the_floor_is_limits_files_and_system_calls_without_root() {
        assert!(full().is_enough() && full().missing().is_empty());
        assert!(Level { namespaces: Namespaces::None, ..full() }.is_enough());
        assert!(Level { landlock: 0, ..full() }.is_enough());
        assert!(!Level { landlock: 0, namespaces: Namespaces::None, ..full() }.is_enough());
        assert!(!Level { seccomp: false, ..full() }.is_enough());
        assert!(!Level { limits: false, ..full() }.is_enough());
        assert!(!Level { identity: Identity::Root, ..full() }.is_enough());
        assert_eq!(Level { seccomp: false, landlock: 3, ..full() }.missing().len(), 2);
    }
}
