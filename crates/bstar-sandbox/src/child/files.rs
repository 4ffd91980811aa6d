//! Landlock: which files a program may touch, and neither network nor foreign processes.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::child::root::{DEVICES, SCRATCH, SYSTEM};
use crate::level::Namespaces;
use crate::wire::{Failure, Layer, Spec, Step};

/// Rules whose paths are open already.
pub(super) struct Rules(Option<RulesetCreated>);

/// Opens the paths, which must happen while this process may still reach them.
pub(super) fn prepare(spec: &Spec, work: &Path) -> Result<Rules, Failure> {
    if spec.level.landlock == 0 {
        return Ok(Rules(None));
    }
    rules(spec, work)
        .map(|rules| Rules(Some(rules)))
        .step(Layer::Landlock, "write Landlock's rules")
}

impl Rules {
    /// Confines this process for good.
    pub(super) fn enforce(self) -> Result<(), Failure> {
        let Some(rules) = self.0 else { return Ok(()) };
        let status = rules.restrict_self().step(Layer::Landlock, "enforce Landlock's rules")?;
        if status.ruleset != RulesetStatus::FullyEnforced || !status.no_new_privs {
            let what = format!("{:?}", status.ruleset);
            return Err(Failure::new(Layer::Landlock, "enforce all of Landlock's rules", &what));
        }
        Ok(())
    }
}

fn rules(spec: &Spec, work: &Path) -> Result<RulesetCreated, RulesetError> {
    let abi = abi(spec.level.landlock);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    if abi >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    let mut rules = ruleset.create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    let readable = spec.place.readable.iter().map(|(_, real)| Path::new(real));
    for path in SYSTEM.iter().map(Path::new).chain(readable) {
        rules = allow(rules, path, read)?;
    }
    let mut write = AccessFs::ReadFile | AccessFs::WriteFile;
    for device in DEVICES {
        rules = allow(rules, Path::new(device), write)?;
        write = AccessFs::ReadFile.into();
    }
    // No devices, which would need root anyway; whatever else the version knows.
    let all = AccessFs::from_all(abi) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    rules = allow(rules, work, all)?;
    if spec.level.namespaces != Namespaces::None {
        for folder in SCRATCH {
            rules = allow(rules, Path::new(folder), all)?;
        }
    }
    Ok(rules)
}

/// Adds a rule for a path, if there is one.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & !BitFlags::from(AccessFs::ReadDir) };
    rules.add_rule(PathBeneath::new(opened, access))
}

/// The newest version known here that is not above the kernel's.
fn abi(version: u8) -> ABI {
    match version {
        0 => ABI::Unsupported,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        _ => ABI::V7,
    }
}
