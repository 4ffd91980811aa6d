//! The hub of the tests of `bstar-hub`.

#[path = "../../../bstar-hub/tests/server/mod.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod hub;

pub(crate) use hub::{COMMIT, Server};
