//! The smallest program that can be a sandbox's child; the crate's tests start it.

use std::process::ExitCode;

fn main() -> ExitCode {
    bstar_sandbox::child::main()
}
