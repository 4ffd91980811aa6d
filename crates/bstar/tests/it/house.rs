//! Rules of the house: one-way crate arrows, sizes, module docs, names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MOST_FILE_LINES: usize = 600;
const MOST_FUNCTION_LINES: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// Every Rust file of the workspace with its text.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
            .expect("a folder of the repository")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("crates"), &mut found);
    assert!(found.len() > 50, "only {} source files found", found.len());
    found
}

#[test]
fn crates_depend_only_where_the_arrows_point() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("bstar-core", &[] as &[&str]),
        ("bstar-verify", &[]),
        ("bstar-table", &[]),
        ("bstar-sandbox", &[]),
        ("bstar-tasks", &["bstar-core", "bstar-sandbox", "bstar-table", "bstar-verify"]),
        ("bstar-hub", &["bstar-core"]),
        ("bstar-model", &["bstar-core"]),
        ("bstar-store", &["bstar-core", "bstar-table"]),
        ("bstar-report", &["bstar-core", "bstar-store"]),
        (
            "bstar",
            &[
                "bstar-core",
                "bstar-hub",
                "bstar-model",
                "bstar-report",
                "bstar-sandbox",
                "bstar-store",
                "bstar-table",
                "bstar-tasks",
                "bstar-verify",
            ],
        ),
    ]);
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata");
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let allowed =
            allowed.get(name).unwrap_or_else(|| panic!("{name} is not in ARCHITECTURE.md"));
        for dependency in &package.dependencies {
            let target = dependency.name.as_str();
            let own =
                target == name && dependency.kind == cargo_metadata::DependencyKind::Development;
            let ours = target == "bstar" || target.starts_with("bstar-");
            assert!(
                !ours || own || allowed.contains(&target),
                "{name} must not depend on {target}"
            );
        }
    }
}

#[test]
fn the_core_knows_no_tensors_files_clock_or_environment() {
    let banned = [
        "std::fs",
        "std::env::",
        "std::time",
        "std::process",
        "std::thread",
        "std::net",
        "println!",
    ];
    for (path, text) in sources() {
        if path.components().any(|part| part.as_os_str() == "bstar-core")
            && path.components().any(|part| part.as_os_str() == "src")
        {
            for word in banned {
                assert!(!text.contains(word), "{} uses {word}", path.display());
            }
        }
    }
}

#[test]
fn files_are_short_and_open_with_their_job() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= MOST_FILE_LINES, "{} has {lines} lines", path.display());
        assert!(text.starts_with("//! "), "{} has no module doc", path.display());
    }
}

/// Whether a line begins a function.
fn is_function(code: &str) -> bool {
    let visible = code.split_once(") ").filter(|_| code.starts_with("pub("));
    let rest = visible.map_or(code, |(_, rest)| rest).trim_start_matches("pub ");
    let rest = rest.trim_start_matches("const ").trim_start_matches("async ");
    rest.trim_start_matches("unsafe ").starts_with("fn ")
}

#[test]
fn functions_are_short() {
    let heads =
        ["fn a() {", "pub fn a<T: Fn(u8)>() {", "pub(crate) fn a(", "pub(super) const fn a("];
    assert!(heads.into_iter().all(is_function));
    assert!(!is_function("// fn a()") && !is_function("let f: fn(u8) = g;"));
    let mut functions = 0;
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            if !is_function(code) {
                continue;
            }
            functions += 1;
            // A declaration without a body ends in a semicolon.
            let signature = lines[start..].iter().find(|line| line.ends_with(['{', ';', '}']));
            if signature.is_none_or(|line| !line.ends_with('{')) {
                continue;
            }
            let end = format!("{}}}", &line[..line.len() - code.len()]);
            let body = lines[start..].iter().position(|line| *line == end).unwrap_or(0);
            assert!(
                body <= MOST_FUNCTION_LINES,
                "{}:{} is a function of {body} lines",
                path.display(),
                start + 1
            );
        }
    }
    assert!(functions > 1000, "only {functions} functions found");
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let banned = ["utils", "util", "common", "base", "manager", "handler", "misc", "helpers"];
    for (path, _) in sources() {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a UTF-8 name");
        assert!(!banned.contains(&stem), "{}", path.display());
    }
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    let left = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    for (path, text) in sources() {
        for word in left {
            assert!(!text.contains(word), "{} holds {word}", path.display());
        }
    }
}

#[test]
fn no_tracked_file_is_large() {
    let output =
        std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Ok(output) = output else {
        eprintln!("skipped: no git");
        return;
    };
    for name in String::from_utf8_lossy(&output.stdout).split('\0').filter(|name| !name.is_empty())
    {
        let size = std::fs::metadata(root().join(name)).map_or(0, |metadata| metadata.len());
        assert!(size <= 1 << 20, "{name} has {size} bytes");
    }
}

#[test]
fn the_documents_exist() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "docs/glossary.md",
        "docs/log.md",
        "docs/design/departures.md",
        ".ci/run",
    ] {
        assert!(root().join(name).is_file(), "{name} is missing");
    }
}
