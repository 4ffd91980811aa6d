//! The file tree inside a mount namespace: what may be read, read-only, and small private folders.

use std::ffi::CStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::system;
use crate::wire::{Failure, Layer, Spec, Step};

/// What every dynamically linked program needs.
pub(super) const SYSTEM: [&str; 13] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
];

/// Devices that hold no data; the first may also be written.
pub(super) const DEVICES: [&str; 5] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// The working folder.
pub(super) const WORK: &str = "/box";

/// Other folders that may be written, all on one small file system with the working folder.
pub(super) const SCRATCH: [&str; 2] = ["/tmp", "/dev/shm"];

/// The working folder and the others.
const WRITABLE: [&CStr; 3] = [c"/box", c"/tmp", c"/dev/shm"];

/// The host's tree, while it is still there.
const HOST: &str = "/.host";

/// Where the small file system is first mounted.
const HIDDEN: &str = "/.scratch";

/// Builds the tree and moves into it. Returns the working folder.
pub(super) fn build(spec: &Spec, identity: Option<u32>) -> Result<PathBuf, Failure> {
    move_in().step(Layer::Namespaces, "move into a new file tree")?;
    make_scratch(spec.limits.disk, identity).step(Layer::Namespaces, "make private folders")?;
    for path in SYSTEM {
        let path = Path::new(path);
        offer(path, path).step(Layer::Namespaces, &format!("offer {}", path.display()))?;
    }
    for (given, real) in &spec.place.readable {
        let (given, real) = (Path::new(given), Path::new(real));
        offer(given, real).step(Layer::Namespaces, &format!("offer {}", given.display()))?;
    }
    for device in DEVICES {
        bind(Path::new(device)).step(Layer::Namespaces, &format!("offer {device}"))?;
    }
    close().step(Layer::Namespaces, "close the new file tree")?;
    Ok(PathBuf::from(WORK))
}

/// Makes an empty tree the root; the host's is below it.
fn move_in() -> io::Result<()> {
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    // Any folder will do to mount on: it is only covered in this namespace, and for a moment.
    let new = "/usr";
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), new, Some("tmpfs"), flags, Some("mode=0755,size=1m,nr_inodes=4k"))?;
    let host = format!("{new}{HOST}");
    fs::create_dir(&host)?;
    nix::unistd::pivot_root(new, host.as_str())?;
    std::env::set_current_dir("/")
}

/// Makes a path of the host readable at the same place. `real` is where its links lead on the host.
fn offer(given: &Path, real: &Path) -> io::Result<()> {
    let on_host = at_host(given);
    if given == real {
        match fs::symlink_metadata(&on_host) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Such as `/lib`, which is a link into `/usr` on most systems.
            Ok(meta) if meta.is_symlink() => return link(&fs::read_link(&on_host)?, given),
            _ => return bind(real),
        }
    }
    bind(real)?;
    link(real, given)
}

/// A link, unless something is there.
fn link(target: &Path, at: &Path) -> io::Result<()> {
    if at.symlink_metadata().is_ok() {
        return Ok(());
    }
    make_parents(at)?;
    symlink(target, at)
}

/// Mounts a path of the host at the same place, unless it can be seen already.
fn bind(path: &Path) -> io::Result<()> {
    let from = at_host(path);
    let there = fs::symlink_metadata(&from)?;
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    make_parents(path)?;
    if there.is_dir() {
        make_folder(path, 0o755)?;
    } else {
        File::create(path)?;
    }
    let nothing = None::<&str>;
    mount(Some(&from), path, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)?;
    Ok(())
}

/// A path of the host, seen from the new root.
fn at_host(path: &Path) -> PathBuf {
    Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path))
}

fn make_parents(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(parent)
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    // Whatever the mask is.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Adds what may be written. Before the rest, as what is offered may lie below it.
fn make_scratch(disk: u64, identity: Option<u32>) -> io::Result<()> {
    let nothing = None::<&str>;
    // A page for each folder itself; a small file takes a whole page.
    let options = format!("mode=0755,size={},nr_inodes={}", disk + 65536, disk / 4096 + 64);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    make_folder(Path::new(HIDDEN), 0o755)?;
    mount(Some("tmpfs"), HIDDEN, Some("tmpfs"), flags, Some(options.as_str()))?;
    for target in WRITABLE {
        let target = Path::new(target.to_str().expect("written above in ASCII"));
        let name = target.to_string_lossy().replace('/', "-");
        let source = Path::new(HIDDEN).join(name);
        make_folder(&source, 0o700)?;
        make_parents(target)?;
        make_folder(target, 0o755)?;
        mount(Some(&source), target, nothing, MsFlags::MS_BIND, nothing)?;
        chown(target, identity, identity)?;
    }
    umount2(HIDDEN, MntFlags::MNT_DETACH)?;
    fs::remove_dir(HIDDEN)
}

/// Lets go of the host's tree and makes everything else read-only.
fn close() -> io::Result<()> {
    umount2(HOST, MntFlags::MNT_DETACH)?;
    fs::remove_dir(HOST)?;
    system::set_read_only(c"/", true)?;
    WRITABLE.iter().try_for_each(|folder| system::set_read_only(folder, false))
}
