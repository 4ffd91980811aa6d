//! The Python interpreter that runs programs.
//!
//! What stands on the PATH may be a wrapper, so the interpreter itself is asked where it is and
//! which folders it needs. It is the user's own and runs outside the sandbox for that one question.

use super::error::ProgramsError;
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Prints where the interpreter is, which folders it reads, and its version.
const QUESTION: &str = "import json, os, sys, sysconfig; print(json.dumps({'executable': \
    os.path.realpath(sys.executable), 'folders': sorted({sys.base_prefix, sys.base_exec_prefix, \
    sysconfig.get_path('stdlib'), sysconfig.get_path('platstdlib')}), 'version': \
    sys.version.split()[0], 'recent': sys.version_info >= (3, 8)}))";

/// An interpreter that was asked and answered.
#[derive(Clone, Debug, Deserialize)]
pub struct Python {
    /// The interpreter itself.
    pub executable: PathBuf,
    /// Folders that it reads its library from.
    pub folders: Vec<PathBuf>,
    /// Such as `3.11.7`.
    pub version: String,
    recent: bool,
}

impl Python {
    /// The configured interpreter, or `python3` on the PATH.
    pub fn find(configured: Option<&Path>) -> Result<Self, ProgramsError> {
        let name = configured.unwrap_or(Path::new("python3")).to_owned();
        let missing = |problem: String| ProgramsError::NoPython { name: name.clone(), problem };
        let output = Command::new(&name)
            .args(["-I", "-S", "-B", "-c", QUESTION])
            .output()
            .map_err(|error| missing(error.to_string()))?;
        if !output.status.success() {
            return Err(missing(format!("it ends with {}", output.status)));
        }
        let python: Self = serde_json::from_slice(&output.stdout)
            .map_err(|_| missing("it does not answer like Python 3".to_owned()))?;
        if !python.recent {
            return Err(missing(format!("it is Python {}, and 3.8 is needed", python.version)));
        }
        Ok(python)
    }

    /// The command that runs a file of the working folder: without site packages, and without
    /// writing byte code. The environment is ours, so it is not ignored (`-I`): the hash seed is in it.
    pub(super) fn command(&self, file: &str, arguments: &[&str]) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![self.executable.clone().into()];
        command.extend(["-s", "-S", "-B", file].into_iter().map(OsString::from));
        command.extend(arguments.iter().map(OsString::from));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_python_is_named() {
        for name in ["no-such-python", "/bin/true", "/bin/false"] {
            let error = Python::find(Some(Path::new(name))).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
