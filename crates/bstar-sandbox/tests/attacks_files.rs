//! Attacks on files: reading what is secret, writing outside, and leaving what cannot be removed.

mod arena;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use arena::{Arena, SECRET, attack};
use bstar_sandbox::{Ended, Program};

#[test]
fn as_an_ordinary_user() {
    arena::again_as_an_ordinary_user("as_an_ordinary_user");
}

#[test]
fn reading_secrets() {
    let code = "
os.symlink('@HOST@/secret', 'link')
os.symlink('/', 'top')
paths = ['@HOST@/secret', 'link', 'top@HOST@/secret', '../../../../../..@HOST@/secret',
         '/proc/self/root@HOST@/secret', '/proc/1/root@HOST@/secret',
         '/etc/shadow', '/etc/passwd', '/etc/hostname', '/root/.bashrc', '/root/.ssh/id_rsa',
         '/dev/mem', '/dev/kmsg', '/dev/vda', '/dev/sda', '/sys/kernel/notes', '/boot/vmlinuz']
for path in paths:
    attempt(lambda: open(path, 'rb').read(100))
for path in ['@HOST@', '/root', '/home', '/proc', '/sys', '/var', '/mnt', '/run']:
    attempt(lambda: os.listdir(path))";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn reading_a_secret_in_the_home_folder() {
    // Readable for all, so that only the sandbox stands between.
    let Some(home) = std::env::home_dir().filter(|home| home.is_dir()) else { return };
    let file = home.join(format!("bait-{}", std::process::id()));
    if fs::write(&file, SECRET).is_err() {
        eprintln!("skipped: {} cannot be written", home.display());
        return;
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let code = format!("attempt(lambda: open({:?}).read())", file.to_str().unwrap());
    attack(&code, |seen| {
        seen.refused();
    });
    fs::remove_file(&file).unwrap();
}

#[test]
fn reading_the_environment_of_its_starters() {
    let code = "
print(sorted(os.environ))
print(b'CARGO' in libc_environ if (libc_environ := str(dict(os.environ)).encode()) else '')";
    attack(code, |seen| {
        seen.says("['HOME', 'LANG', 'MARK', 'PATH', 'TMPDIR']").says("False");
    });
}

#[test]
fn reading_another_program_s_folder() {
    for sandbox in arena::levels() {
        let (writer, reader) = (Arena::new(), Arena::new());
        let hold = writer.program(&format!(
            "open('own', 'w').write({SECRET:?}); os.fchmod(os.open('.', 0), 0o777); os.fchmod(os.open('own', 0), 0o777)
for place in ('/tmp', '/dev/shm'):
    try: open(place + '/own', 'w').write({SECRET:?}); os.fchmod(os.open(place + '/own', 0), 0o777)
    except OSError: pass
time.sleep(1.5)"
        ));
        let look = reader.program(
            "
time.sleep(0.7)
import glob
for top in ['/tmp/bstar-sandbox-*', '..', '/box', '/tmp', '/dev/shm']:
    for path in glob.glob(top + '/run-*') + glob.glob(top + '/*') + [top]:
        attempt(lambda: open(path + '/own').read())
base = os.getcwd().rstrip('0123456789')
for near in range(@PARENT@, @PARENT@ + 500):
    try: print(open(f'{base}{near}/own').read())
    except OSError: pass",
        );
        let reports = sandbox.run_together(vec![hold, look]).unwrap();
        assert_eq!(reports[0].ended, Ended::Code(0), "{:?}", reports[0]);
        assert_eq!(reports[1].ended, Ended::Code(0), "{:?}", reports[1]);
        let said = String::from_utf8_lossy(&reports[1].stdout).into_owned();
        assert!(!said.contains(SECRET), "{}: {said}", sandbox.level());
    }
}

#[test]
fn writing_outside() {
    let code = "
for folder in ['/tmp', '/var/tmp', '/dev/shm', '@HOST@', '/', '/root', '/home', '/etc', '/usr',
               '/usr/lib', '/usr/bin', '..', '../..', '/run', '/var/run', '/dev', sys.prefix,
               os.path.dirname(os.__file__), os.path.dirname(sys.executable)]:
    for action in (lambda p: open(p, 'w').write('x'), os.mkdir, lambda p: os.symlink('/', p),
                   lambda p: os.link(sys.argv[0], p), lambda p: os.mkfifo(p),
                   lambda p: os.rename('moved', p), lambda p: os.mknod(p)):
        open('moved', 'w').close()
        try:
            action(folder + '/@MARK@')
            print('wrote', folder)
        except OSError: pass
for path in ['@HOST@/secret', os.__file__, sys.executable, '/etc/passwd']:
    for action in (lambda: open(path, 'a').write('x'), lambda: os.truncate(path, 0),
                   lambda: os.unlink(path), lambda: os.rename(path, 'stolen'),
                   lambda: os.chmod(path, 0o777), lambda: os.utime(path),
                   lambda: os.link(path, 'linked')):
        attempt(action)";
    attack(code, |seen| {
        assert!(!seen.out().contains("DONE"), "{seen}");
        for line in seen.out().lines().filter(|line| line.starts_with("wrote")) {
            let private = ["wrote /tmp", "wrote /dev/shm"].contains(&line);
            assert!(private && seen.has_namespaces(), "{line}: {seen}");
        }
        seen.ended(Ended::Code(0));
    });
}

#[test]
fn links_and_moves_out_of_the_working_folder() {
    let code = "
os.symlink('@HOST@', 'out')
os.mkdir('inner')
os.symlink('../../..@HOST@', 'inner/up')
for path in ['out/@MARK@', 'inner/up/@MARK@']:
    attempt(lambda: open(path, 'w').write('x'))
    attempt(lambda: os.mkdir(path))
    attempt(lambda: os.rename('inner', path))
    attempt(lambda: os.link(sys.argv[0], path))
attempt(lambda: os.link('@HOST@/secret', 'hard'))
attempt(lambda: os.rename('@HOST@/secret', 'soft'))
attempt(lambda: os.chmod('out/secret', 0))
fd = os.open('.', os.O_RDONLY)
attempt(lambda: open('../../../..@HOST@/@MARK@', 'w'))
attempt(lambda: os.open('../..@HOST@/secret', os.O_RDONLY, dir_fd=fd))";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn trees_that_resist_removal() {
    let code = "
for number in range(3000):
    os.mkdir('d'); os.chdir('d')
os.chdir(os.environ['HOME'])
os.makedirs('locked/in/ner')
open('locked/in/file', 'w').close()
for name in [b'new\\nline', b'\\xff\\xfe', b'-rf', b'*', b' ', b'a' * 255, b'.raised-1']:
    open(name, 'w').close()
os.symlink('/', 'root'); os.symlink('root', 'chain'); os.symlink('@HOST@', 'bait')
os.mkfifo('pipe')
for path, mode in [('locked/in/ner', 0), ('locked/in', 0o500), ('locked', 0), ('.', 0)]:
    os.fchmod(os.open(path, os.O_RDONLY), mode)
print('well')";
    attack(code, |seen| {
        if seen.report.struck.is_none() {
            seen.says("well").ended(Ended::Code(0));
        }
    });
}

#[test]
fn programs_that_are_root_s() {
    let code = "
for line in [['/bin/su', '-c', 'id -u'], ['/usr/bin/passwd', '-S'], ['/usr/bin/sudo', '-n', 'id'],
             ['/bin/mount'], ['/usr/bin/newgrp'], ['/usr/bin/chsh', '-s', '/bin/sh']]:
    if os.path.exists(line[0]):
        try: got = subprocess.run(line, capture_output=True, timeout=3, stdin=subprocess.DEVNULL)
        except Exception as error: print('no', error); continue
        print('ended', line[0], got.returncode, got.stdout)
def become():
    os.setresuid(0, 0, 0)
attempt(become)
attempt(lambda: os.setgroups([0]))
attempt(lambda: os.chown('.', 0, 0))
attempt(lambda: os.mknod('device', 0o60666, os.makedev(254, 0)))
os.close(os.open('tool', os.O_CREAT)); os.fchmod(os.open('tool', 0), 0o6777)
print('user', os.getuid() == 0 or os.geteuid() == 0)";
    attack(code, |seen| {
        assert!(!seen.out().contains("DONE") && !seen.out().contains("b'0\\n'"), "{seen}");
        seen.says("user False").ended(Ended::Code(0));
    });
}

#[test]
fn mounts_and_roots() {
    let code = "
os.mkdir('m')
attempt(lambda: syscall(165, b'tmpfs', b'm', b'tmpfs', 0, None))      # mount
attempt(lambda: syscall(165, b'/', b'm', None, 4096, None))           # bind
attempt(lambda: syscall(165, b'none', b'/', None, 32 | 4096, None))   # remount
attempt(lambda: syscall(166, b'/tmp', 2))                             # umount2
attempt(lambda: syscall(155, b'.', b'm'))                             # pivot_root
attempt(lambda: os.chroot('.'))
attempt(lambda: syscall(428, -100, b'/', 1))                          # open_tree
attempt(lambda: syscall(429, 0, b'', 0, b'', 4))                      # move_mount
attempt(lambda: syscall(430, b'tmpfs', 0))                            # fsopen
attempt(lambda: syscall(433, -100, b'/', 0))                          # fspick
attempt(lambda: syscall(442, -100, b'/', 0, None, 0))                 # mount_setattr
attempt(lambda: syscall(304, -100, None, 0))                          # open_by_handle_at";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn an_interpreter_elsewhere_is_offered_and_cannot_be_written() {
    // A folder that is not the system's; a copy of the shell stands for an interpreter.
    let prefix = tempfile::tempdir().unwrap();
    fs::set_permissions(prefix.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let tool = prefix.path().join("tool");
    fs::copy("/bin/sh", &tool).unwrap();
    let settings = bstar_sandbox::Settings {
        readable: vec![prefix.path().to_owned()],
        ..bstar_sandbox::Settings::default()
    };
    let sandbox = bstar_sandbox::Sandbox::new(arena::launcher(), settings).unwrap();
    let line = format!("echo ran; echo x > {}", prefix.path().join("x").display());
    let report =
        sandbox.run(Program::new([tool.as_os_str(), "-c".as_ref(), line.as_ref()])).unwrap();
    assert_eq!(report.stdout, b"ran\n", "{report:?}");
    assert_ne!(report.ended, Ended::Code(0));
    assert!(!prefix.path().join("x").exists());
}
