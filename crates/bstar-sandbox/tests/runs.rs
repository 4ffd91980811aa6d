//! Ordinary programs: what goes in comes out, the report says what happened, and what cannot be run
//! is an error.

mod arena;

use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use arena::{Arena, launcher, levels, python};
use bstar_sandbox::{
    Ended, Layers, Level, Namespaces, Program, Sandbox, SandboxError, Settings, Struck,
};

fn shell(line: &str) -> Program {
    Program::new(["/bin/sh", "-c", line])
}

#[test]
fn as_an_ordinary_user() {
    arena::again_as_an_ordinary_user("as_an_ordinary_user");
}

#[test]
fn input_files_and_output_pass_through() {
    for sandbox in levels() {
        let mut program = shell("cat; cat a/b; echo $X >&2; exit 7");
        program.stdin = b"in ".to_vec();
        program.files = vec![("a/b".into(), b"file".to_vec()), ("a/c".into(), Vec::new())];
        program.env = vec![("X".into(), "set".into())];
        let report = sandbox.run(program).unwrap();
        assert_eq!(report.stdout, b"in file", "{}: {report:?}", sandbox.level());
        assert_eq!(report.stderr, b"set\n");
        assert_eq!((report.ended, report.struck, report.left_over), (Ended::Code(7), None, 0));
        assert!(report.peak_memory > 0 && report.wall < Duration::from_secs(5));
    }
}

#[test]
fn large_input_and_output_up_to_the_last_byte() {
    for sandbox in levels() {
        let mut program = shell("cat");
        program.stdin = (0..1_000_000_u32).map(|byte| (byte % 251) as u8).collect();
        program.limits.output = program.stdin.len();
        let expected = program.stdin.clone();
        let report = sandbox.run(program).unwrap();
        assert!(report.stdout == expected, "{}: {} bytes", sandbox.level(), report.stdout.len());
        assert_eq!(report.struck, None);
    }
}

#[test]
fn programs_joined_by_pipes_see_each_other_s_end() {
    for sandbox in levels() {
        let (read, write) = std::io::pipe().unwrap();
        let (from_second, to_us): (PipeReader, _) = std::io::pipe().unwrap();
        let mut first = shell("echo question; exec >&-; sleep 0.1");
        first.descriptors = vec![(OwnedFd::from(write), 1)];
        let mut second = shell("cat; echo side >&9");
        second.descriptors = vec![(OwnedFd::from(read), 0), (OwnedFd::from(to_us), 9)];
        let reports = sandbox.run_together(vec![first, second]).unwrap();
        assert_eq!(reports[0].stdout, b"");
        assert_eq!(reports[1].stdout, b"question\n", "{:?}", reports[1]);
        let mut side = String::new();
        { from_second }.read_to_string(&mut side).unwrap();
        assert_eq!(side, "side\n");
    }
}

#[test]
fn a_slot_is_taken_by_a_group_and_given_back() {
    let settings = Settings { slots: 1, ..Settings::default() };
    let sandbox = Sandbox::new(launcher(), settings).unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let sandbox = sandbox.clone();
            scope.spawn(move || {
                let group = vec![shell("sleep 0.3"), shell("sleep 0.3")];
                sandbox.run_together(group).unwrap();
            });
        }
    });
    assert!(started.elapsed() >= Duration::from_millis(600));
    assert!(started.elapsed() < Duration::from_millis(1150), "{:?}", started.elapsed());
}

#[test]
fn what_cannot_be_run_is_an_error() {
    for sandbox in levels() {
        let error = |program| sandbox.run(program).unwrap_err().to_string();
        assert!(error(Program::new(["sh"])).contains("absolute"));
        assert!(error(Program::new(["/no/such"])).contains("failed to execute /no/such"));
        for name in ["/etc/x", "../x", "a/../../x", "", "a/./../b"] {
            let mut program = shell("true");
            program.files = vec![(name.to_owned(), Vec::new())];
            assert!(error(program).contains("not a file name"), "{name}");
        }
        for numbers in [vec![-1], vec![64], vec![5, 5]] {
            let mut program = shell("true");
            let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
            program.descriptors = numbers.into_iter().map(|number| (null(), number)).collect();
            assert!(error(program).contains("number"));
        }
        assert_eq!(sandbox.run(shell("true")).unwrap().ended, Ended::Code(0));
    }
}

#[test]
fn a_level_below_the_floor_is_refused_with_advice_unless_allowed() {
    let layers = Layers { namespaces: false, landlock: 0, ..Layers::default() };
    let settings = Settings { layers, ..Settings::default() };
    let error = Sandbox::new(launcher(), settings.clone()).unwrap_err();
    assert!(matches!(error, SandboxError::TooWeak { .. }));
    let text = error.to_string();
    assert!(
        text.contains("no Landlock: use Linux 5.13") && text.contains("no namespaces"),
        "{text}"
    );
    let weak = Sandbox::new(launcher(), Settings { allow_weak: true, ..settings }).unwrap();
    assert!(weak.level().to_string().starts_with("weak: seccomp, limits"));
    assert_eq!(weak.run(shell("true")).unwrap().ended, Ended::Code(0));

    // With nothing at all, a daemon that left the group is still found.
    let layers = Layers { seccomp: false, ..layers };
    let settings = Settings { layers, allow_weak: true, ..Settings::default() };
    let weak = Sandbox::new(launcher(), settings).unwrap();
    let arena = Arena::new();
    let program = arena.program(
        "os.fork() or (os.setsid(), os.fork() and os._exit(0), time.sleep(100))\ntime.sleep(0.2)",
    );
    let report = weak.run(program).unwrap();
    assert_eq!((report.ended, report.left_over), (Ended::Code(0), 1), "{report:?}");
    assert!(arena.alive().is_empty());
}

#[test]
fn a_launcher_that_is_none_is_an_error() {
    for program in ["/no/such/program", "/bin/true"] {
        let launcher = bstar_sandbox::Launcher::new(program.into(), Vec::new());
        let error = Sandbox::new(launcher, Settings::default()).unwrap_err();
        assert!(
            matches!(error, SandboxError::Launch { .. } | SandboxError::Died),
            "{program}: {error}"
        );
    }
}

#[test]
fn the_level_is_full_where_the_host_has_everything() {
    for sandbox in levels().iter().take(1) {
        let Level { namespaces, landlock, .. } = sandbox.level().clone();
        assert!(sandbox.level().is_enough());
        if namespaces == Namespaces::Full && landlock >= 6 {
            assert!(sandbox.level().to_string().starts_with("full: namespaces, Landlock "));
        }
    }
}

#[test]
fn an_interpreter_in_a_private_prefix_runs_where_namespaces_bring_it_in() {
    let ask = "import os,sys; print(os.path.realpath(sys.executable)); print(sys.base_prefix)";
    let Ok(output) = Command::new("python3").args(["-I", "-c", ask]).output() else {
        eprintln!("skipped: no python3 on the path");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let [executable, prefix] = text.lines().collect::<Vec<_>>()[..] else {
        eprintln!("skipped: this user cannot run the python3 on the path");
        return;
    };
    let settings = Settings { readable: vec![PathBuf::from(prefix)], ..Settings::default() };
    let sandbox = Sandbox::new(launcher(), settings).unwrap();
    if sandbox.level().namespaces == Namespaces::None {
        eprintln!("skipped: a private prefix needs namespaces");
        return;
    }
    let code = "import json, math, decimal, random, itertools; print(json.dumps(math.pi))";
    let report = sandbox.run(Program::new([executable, "-I", "-B", "-c", code])).unwrap();
    assert_eq!(report.stdout, b"3.141592653589793\n", "{report:?}");
}

/// Run by the next test, which kills it.
#[test]
#[ignore = "a part of `a_killed_parent_takes_everything_with_it`"]
fn a_program_that_waits() {
    let Ok(marker) = std::env::var("BSTAR_TEST_MARKER") else { return };
    let sandbox = arena::sandbox(Layers {
        namespaces: std::env::var_os("BSTAR_TEST_POOR").is_none(),
        ..Layers::default()
    })
    .expect("the parent test found this level");
    let mut program = Program::new([
        python().as_os_str(),
        "-c".as_ref(),
        "import os,time; os.fork(); time.sleep(100)".as_ref(),
    ]);
    program.env.push(("MARK".into(), marker.into()));
    program.limits.wall = Duration::from_mins(1);
    let report = sandbox.run(program);
    panic!("it ended: {report:?}");
}

#[test]
fn a_killed_parent_takes_everything_with_it() {
    for poor in [false, true] {
        let layers = Layers { namespaces: !poor, ..Layers::default() };
        if arena::sandbox(layers).is_none() {
            eprintln!("skipped: this host is below the floor");
            continue;
        }
        let arena = Arena::new();
        let temp = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["a_program_that_waits", "--exact", "--ignored"]).env("TMPDIR", temp.path());
        command.env("BSTAR_TEST_MARKER", &arena.marker);
        if poor {
            command.env("BSTAR_TEST_POOR", "1");
            // Programs of root run as somebody else, who must reach their folder.
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(temp.path(), open).unwrap();
        }
        let mut parent = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        let wait = |wanted: usize| {
            let deadline = Instant::now() + Duration::from_secs(5);
            // The parent itself has the marker in its environment.
            let count = || arena.alive().iter().filter(|line| line.contains("time.sleep")).count();
            while count() != wanted {
                assert!(Instant::now() < deadline, "{} processes: {:?}", wanted, arena.alive());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait(2);
        parent.kill().unwrap();
        parent.wait().unwrap();
        wait(0);
        // The next start finds the folder of the dead and removes it.
        let folders = || std::fs::read_dir(temp.path()).unwrap().count();
        assert_eq!(folders(), 1);
        let mut next = Command::new(std::env::current_exe().unwrap());
        next.args(["the_level_is_full", "--quiet"]).env("TMPDIR", temp.path());
        let output = next.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(folders(), 0);
    }
}

#[test]
fn many_starts_at_one_time_do_not_disturb_each_other() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let sandbox = Sandbox::new(launcher(), Settings::default()).unwrap();
                    assert!(sandbox.folder().is_dir());
                }
            });
        }
    });
}

#[test]
fn limits_are_told_apart() {
    let Some(sandbox) = arena::sandbox(Layers::default()) else { return };
    let mut program = shell("sleep 100");
    program.limits.wall = Duration::from_millis(300);
    let report = sandbox.run(program).unwrap();
    assert_eq!((report.ended, report.struck), (Ended::Signal(9), Some(Struck::Wall)));
    let report = sandbox.run(Program::new(["/usr/bin/yes"])).unwrap();
    assert_eq!((report.stdout.len(), report.struck), (1 << 20, Some(Struck::Output)));
    let report = sandbox.run(shell("kill -TERM $$")).unwrap();
    assert_eq!((report.ended, report.struck), (Ended::Signal(15), None));
}
