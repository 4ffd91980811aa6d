//! Fetches the files of a model that the cache lacks.
//!
//! The commit of the revision is asked for first, and every file is of that commit. A file grows
//! under a name of its own, goes on where an earlier attempt stopped, and gets its name when all of
//! it came; its length and its hash are then compared with what the hub announced, and a wrong one is
//! thrown away. Small files come before the weights, and the revision is written down last: a cache
//! that holds the weights of a model holds everything else of it.

use crate::cache::is_commit;
use crate::error::HubError;
use crate::name::ModelName;
use crate::parts::{self, ADAPTER_CONFIG, CONFIG, INDEX, WEIGHTS};
use crate::{Hub, Snapshot, Watcher};
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo, Metadata};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

/// Brings a whole model into the cache.
pub(crate) fn fetch(
    hub: &Hub,
    name: &ModelName,
    watcher: &mut dyn Watcher,
) -> Result<Snapshot, HubError> {
    let api = ApiBuilder::from_cache(Cache::new(hub.cache.clone()))
        .with_endpoint(hub.endpoint.clone())
        .with_token(hub.token.clone())
        .with_progress(false)
        .with_user_agent("bstar", env!("CARGO_PKG_VERSION"))
        .build();
    let asked = Asked { hub, name };
    let api = api.map_err(|error| asked.failed("anything", error))?;
    let info = asked.repository(&api, name.revision()).info();
    let info = info.map_err(|error| asked.failed(LIST, error))?;
    if !is_commit(&info.sha) {
        let reason = format!("its commit is {:?}", info.sha);
        return Err(asked.broken(LIST, reason));
    }
    let listed: BTreeSet<&str> = info.siblings.iter().map(|file| &*file.rfilename).collect();
    asked.check_formats(&listed)?;
    let cache = Cache::new(hub.cache.clone()).repo(asked.of_revision(&info.sha));
    let folder = cache.pointer_path(&info.sha);
    let repository = asked.repository(&api, &info.sha);
    let mut fetcher = Fetcher { asked, api, repository, cache, watcher };
    fetcher.fetch_absent(&parts::small_files(&listed), &folder)?;
    let weights = parts::weight_files(&listed, &folder)?;
    if let Some(absent) = weights.iter().find(|file| !listed.contains(file.as_str())) {
        return Err(asked.not_found(absent));
    }
    let weights: Vec<&str> = weights.iter().map(String::as_str).collect();
    fetcher.fetch_absent(&weights, &folder)?;
    if let Some(absent) = parts::lacking(&folder)?.first() {
        return Err(asked.not_found(absent));
    }
    let refs = Cache::new(hub.cache.clone()).repo(asked.of_revision(name.revision()));
    refs.create_ref(&info.sha).map_err(|source| asked.cache_failed(source))?;
    Ok(Snapshot { folder, commit: info.sha })
}

/// What was asked for, which every error names.
#[derive(Clone, Copy)]
struct Asked<'a> {
    hub: &'a Hub,
    name: &'a ModelName,
}

impl Asked<'_> {
    fn of_revision(self, revision: &str) -> Repo {
        Repo::with_revision(self.name.repository().into(), RepoType::Model, revision.into())
    }

    fn repository(self, api: &Api, revision: &str) -> ApiRepo {
        api.repo(self.of_revision(revision))
    }

    /// Refuses a repository that cannot be a model before anything is fetched.
    fn check_formats(self, listed: &BTreeSet<&str>) -> Result<(), HubError> {
        if !listed.contains(CONFIG) {
            let is_adapter = listed.contains(ADAPTER_CONFIG);
            return if is_adapter { Ok(()) } else { Err(self.not_found(CONFIG)) };
        }
        if listed.contains(WEIGHTS) || listed.contains(INDEX) {
            return Ok(());
        }
        let is_other = |file: &&&str| {
            let ending = Path::new(file).extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| OTHER_FORMATS.contains(&ending))
        };
        let other = listed.iter().find(is_other).map(|file| (*file).to_owned());
        Err(HubError::NoSafetensors { name: self.name.clone(), other })
    }

    fn not_found(self, file: &str) -> HubError {
        HubError::NotFound { what: format!("{file} of {}", self.name) }
    }

    fn cache_failed(self, source: io::Error) -> HubError {
        HubError::Cache { path: self.hub.cache.clone(), source }
    }

    fn broken(self, what: &str, reason: String) -> HubError {
        let what = format!("{what} of {}", self.name);
        HubError::Network { what, endpoint: self.hub.endpoint.clone(), reason }
    }

    /// What an error of the library means; `what` was asked for.
    fn failed(self, what: &str, error: ApiError) -> HubError {
        match error {
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(status @ (401 | 403)) => HubError::Refused {
                    name: self.name.clone(),
                    status,
                    with_token: self.hub.token.is_some(),
                },
                ureq::Error::StatusCode(404) if what == LIST => {
                    let (repository, revision) = (self.name.repository(), self.name.revision());
                    HubError::NotFound {
                        what: format!("model {repository} of revision {revision}"),
                    }
                }
                ureq::Error::StatusCode(404) => self.not_found(what),
                other => self.broken(what, other.to_string()),
            },
            ApiError::IoError(error) if is_of_the_disk(&error) => self.cache_failed(error),
            ApiError::LockAcquisition(_) => {
                HubError::Locked { name: self.name.clone(), file: what.to_owned() }
            }
            other => self.broken(what, other.to_string()),
        }
    }
}

/// What a repository is asked for first.
const LIST: &str = "the list of files";

/// Endings of files that hold weights in other formats.
const OTHER_FORMATS: [&str; 6] = ["bin", "gguf", "h5", "msgpack", "pt", "pth"];

/// Whether it was the disk, and not the connection, that failed.
fn is_of_the_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{
        AlreadyExists, IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    matches!(
        error.kind(),
        AlreadyExists
            | IsADirectory
            | NotADirectory
            | NotFound
            | PermissionDenied
            | QuotaExceeded
            | ReadOnlyFilesystem
            | StorageFull
    )
}

/// Fetches files of one commit.
struct Fetcher<'a> {
    asked: Asked<'a>,
    api: Api,
    repository: ApiRepo,
    cache: CacheRepo,
    watcher: &'a mut dyn Watcher,
}

impl Fetcher<'_> {
    /// Fetches those of `files` that `folder` lacks.
    fn fetch_absent(&mut self, files: &[&str], folder: &Path) -> Result<(), HubError> {
        let mut absent = Vec::new();
        for &file in files {
            let path = folder.join(file);
            if path.exists() {
                continue;
            }
            if path.is_symlink() {
                // It points at a file that was removed, and would be in the way.
                fs::remove_file(&path).map_err(|source| self.asked.cache_failed(source))?;
            }
            absent.push((file, self.metadata(file)?));
        }
        if absent.is_empty() {
            return Ok(());
        }
        let bytes = absent.iter().map(|(_, metadata)| metadata.size() as u64).sum();
        self.watcher.begin(self.asked.name, absent.len(), bytes);
        let fetched = absent.iter().try_for_each(|(file, metadata)| {
            self.fetch_file(file, metadata)?;
            self.check_file(file, metadata, &folder.join(file))
        });
        self.watcher.end();
        fetched
    }

    /// What the hub announces of a file.
    fn metadata(&self, file: &str) -> Result<Metadata, HubError> {
        let metadata = self.api.metadata(&self.repository.url(file));
        let metadata = metadata.map_err(|error| self.asked.failed(file, error))?;
        // It becomes the name of a file.
        let hash = metadata.etag();
        if hash.is_empty() || !hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(self.asked.broken(file, format!("its hash is {hash:?}")));
        }
        Ok(metadata)
    }

    /// Fetches a file, in more than one attempt where the connection breaks.
    fn fetch_file(&mut self, file: &str, metadata: &Metadata) -> Result<(), HubError> {
        let mut counter = Counter { watcher: &mut *self.watcher, file, at: 0, told: 0 };
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let fetched = self.repository.download_with_progress(file, &mut counter);
            let Err(error) = fetched else { return Ok(()) };
            if let ApiError::InvalidResume = error {
                // More is there than the file has: what was begun is of no use.
                let begun = self.cache.blob_path(metadata.etag()).with_extension("part");
                fs::remove_file(begun).map_err(|source| self.asked.cache_failed(source))?;
            }
            let error = self.asked.failed(file, error);
            if left == 0 || !matches!(error, HubError::Network { .. }) {
                return Err(error);
            }
            std::thread::sleep(BETWEEN_ATTEMPTS);
        }
    }

    /// Throws a file away that is not what was announced.
    fn check_file(&self, file: &str, metadata: &Metadata, path: &Path) -> Result<(), HubError> {
        let fault = fault_of(path, metadata).map_err(|source| self.asked.cache_failed(source))?;
        let Some(reason) = fault else { return Ok(()) };
        for wrong in [path.to_owned(), self.cache.blob_path(metadata.etag())] {
            fs::remove_file(wrong).map_err(|source| self.asked.cache_failed(source))?;
        }
        Err(HubError::Damaged { name: self.asked.name.clone(), file: file.to_owned(), reason })
    }
}

/// How often a file is begun or gone on with.
const ATTEMPTS: usize = 3;

/// Time for a connection to come back.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(500);

/// How a file differs from what was announced: in length, or in content where the announced hash is
/// one of the content.
fn fault_of(path: &Path, metadata: &Metadata) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let (found, expected) = (file.metadata()?.len(), metadata.size() as u64);
    if found != expected {
        return Ok(Some(format!("it has {found} bytes and should have {expected}")));
    }
    if metadata.etag().len() != SHA256_DIGITS {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hasher.update(&piece[..read]),
        }
    }
    let mut hash = String::new();
    for byte in hasher.finalize() {
        write!(hash, "{byte:02x}").expect("a string takes every write");
    }
    Ok((hash != metadata.etag()).then(|| "its SHA-256 is another".to_owned()))
}

/// Digits of a hash of a large file; small ones have a shorter one, of Git.
const SHA256_DIGITS: usize = 64;

/// Counts each byte once, however often it is asked for.
struct Counter<'a> {
    watcher: &'a mut dyn Watcher,
    file: &'a str,
    at: u64,
    told: u64,
}

impl Progress for &mut Counter<'_> {
    fn init(&mut self, _size: usize, _filename: &str) {
        self.at = 0;
    }

    fn update(&mut self, size: usize) {
        self.at += size as u64;
        if let Some(new) = self.at.checked_sub(self.told).filter(|&new| new > 0) {
            self.told = self.at;
            self.watcher.advance(self.file, new);
        }
    }

    fn finish(&mut self) {}
}
