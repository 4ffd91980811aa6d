//! Tensor files in the safetensors format: eight bytes with the length of the header, a header of
//! JSON, the numbers.
//!
//! A file comes from strangers. Its header is bounded and checked as a whole before any number is
//! read: no name twice, sizes that fit types and shapes, and tensors that follow one another from
//! the first byte to the last. Tensors are then mapped into memory piece by piece and widened to
//! `f32` on the way, and written tensor by tensor, so that a file is never in memory beside its
//! numbers.

use crate::files::{self, FileError};
use crate::folder::FolderError;
use crate::weights::{WeightTensor, little_endian_bytes};
use memmap2::{Mmap, MmapOptions};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Reads every tensor of a file as `f32`, in the order of the file. `check` is asked about each name
/// and shape first: `Ok(false)` leaves a tensor out.
pub(crate) fn read_tensors(
    path: &Path,
    mut check: impl FnMut(&str, &[usize]) -> Result<bool, FolderError>,
) -> Result<Vec<(String, WeightTensor)>, FolderError> {
    let mut reader = Reader::open(path)?;
    let mut read = Vec::new();
    for (name, entry) in reader.header()? {
        let shape = entry.shape.clone();
        if !check(&name, &shape)? {
            continue;
        }
        let Some(numbers) = NumberType::named(&entry.dtype) else {
            let (tensor, found) = (name, entry.dtype);
            return Err(FolderError::NumberType { tensor, path: path.into(), found });
        };
        let data = reader.numbers(numbers, &entry)?;
        read.push((name, WeightTensor { shape, data }));
    }
    Ok(read)
}

/// Writes a file of `f32` tensors and flushes it to the disk. Tensors are stored in the order of
/// their names.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, Vec<usize>, &'a [f32])>,
) -> Result<(), FolderError> {
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_by(|(left, ..), (right, ..)| left.cmp(right));
    let mut end = 0;
    let infos = tensors.iter().map(|(name, shape, data)| {
        let begin = end;
        end += size_of_val(*data);
        let data_offsets = (begin, end);
        (name.clone(), TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets })
    });
    // `transformers` refuses files without it.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let header = Metadata::new(Some(format), infos.collect());
    let header = header.expect("each tensor has four bytes for each number");
    let mut header = serde_json::to_vec(&header).expect("a header can be written");
    // Numbers begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(files::write_synced_by(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for piece in tensors.iter().flat_map(|(_, _, data)| data.chunks(PIECE / 4)) {
            file.write_all(&little_endian_bytes(piece))?;
        }
        Ok(())
    })?)
}

/// Bytes of the largest header that is read: a hundred thousand tensors need less.
const LARGEST_HEADER: u64 = 1 << 24;

/// Most bytes of a file that are in memory at once beside the numbers made of them: enough for the
/// system to read ahead, little beside a model.
const PIECE: usize = 1 << 22;

/// A tensor as the header describes it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl Entry {
    fn bytes(&self) -> u64 {
        self.data_offsets[1] - self.data_offsets[0]
    }

    /// What is wrong with it, where it has to begin at `begin`.
    fn fault(&self, begin: u64) -> Option<String> {
        let [from, to] = self.data_offsets;
        let Some(size) = type_size(&self.dtype) else {
            return Some(format!("is of the unknown type {:?}", self.dtype));
        };
        let count = self.shape.iter().try_fold(1_u64, |product, &n| product.checked_mul(n as u64));
        if from != begin || to < from {
            return Some(format!("lies at bytes {from} to {to}, but has to begin at {begin}"));
        }
        if count.and_then(|count| count.checked_mul(size)) != Some(to - from) {
            let shape = &self.shape;
            let bytes = to - from;
            return Some(format!("has {bytes} bytes for shape {shape:?} of type {}", self.dtype));
        }
        None
    }
}

/// The entries of a header, in any order.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a tensor under each name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let (mut entries, mut names) = (Vec::new(), BTreeSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("tensor `{name}` is there twice")));
            }
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Header(entries))
    }
}

struct Reader<'a> {
    path: &'a Path,
    file: File,
    /// Bytes of the whole file.
    len: u64,
    /// Where the numbers begin, once the header is read.
    begin: u64,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Result<Self, FolderError> {
        let open = || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok(Self { path, file, len, begin: 0 })
        };
        open().map_err(|source| FileError::reading(path, source).into())
    }

    /// The tensors in the order of their bytes.
    fn header(&mut self) -> Result<Vec<(String, Entry)>, FolderError> {
        let mut length = [0; 8];
        if self.len < 8 {
            return Err(self.broken("it ends before its header"));
        }
        self.fill(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER {
            return Err(self.broken(format!("its header claims {length} bytes")));
        }
        self.begin = 8 + length;
        let rest = self.len.checked_sub(self.begin);
        let rest = rest.ok_or_else(|| self.broken("it ends within its header"))?;
        let length = usize::try_from(length).expect("a header of at most 2^24 bytes");
        let mut text = vec![0; length];
        self.fill(&mut text)?;
        let Header(mut entries) = serde_json::from_slice(&text)
            .map_err(|error| self.broken(format!("its header is wrong: {error}")))?;
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut end = 0;
        for (name, entry) in &entries {
            if let Some(fault) = entry.fault(end) {
                return Err(self.broken(format!("tensor `{name}` {fault}")));
            }
            end = entry.data_offsets[1];
        }
        if end != rest {
            let reason = format!("its tensors need {end} bytes after the header, it has {rest}");
            return Err(self.broken(reason));
        }
        Ok(entries)
    }

    /// The numbers of a tensor, which the header's check found in the file.
    fn numbers(&self, numbers: NumberType, entry: &Entry) -> Result<Vec<f32>, FolderError> {
        let bytes = usize::try_from(entry.bytes()).map_err(|_| self.broken("it is too large"))?;
        let failed = |source| FileError::reading(self.path, source);
        let mut data = Vec::with_capacity(bytes / numbers.size());
        for start in (0..bytes).step_by(PIECE) {
            let from = self.begin + entry.data_offsets[0] + start as u64;
            let piece = PIECE.min(bytes - start);
            if self.file.metadata().map_err(failed)?.len() < from + piece as u64 {
                return Err(self.broken("it became shorter while it was read"));
            }
            numbers.widen(&map(&self.file, from, piece).map_err(failed)?, &mut data);
        }
        Ok(data)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), FolderError> {
        let read = self.file.read_exact(buffer);
        read.map_err(|source| FileError::reading(self.path, source).into())
    }

    fn broken(&self, reason: impl Into<String>) -> FolderError {
        FolderError::Broken { path: self.path.into(), reason: reason.into() }
    }
}

/// Maps `bytes` bytes of a file, at least one, which the caller found in it a moment ago.
#[expect(unsafe_code, reason = "nothing but a promise keeps others from changing a mapped file")]
fn map(file: &File, from: u64, bytes: usize) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and lies within the file. It lives as long as its bytes are
    // copied out, and any bytes are valid numbers, so nothing read earlier can become wrong. What is
    // left is that another process changes the file in that moment: model files are replaced by
    // renaming (by bstar, and by the cache of the hub), never written in place, and who cuts one
    // all the same ends this process with a bus error rather than with wrong weights.
    unsafe { MmapOptions::new().offset(from).len(bytes).map(file) }
}

/// Bytes of a number of a type.
fn type_size(name: &str) -> Option<u64> {
    match name {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        "U16" | "I16" | "F16" | "BF16" => Some(2),
        "U32" | "I32" | "F32" => Some(4),
        "U64" | "I64" | "F64" => Some(8),
        _ => None,
    }
}

/// A type of numbers that is read.
#[derive(Clone, Copy)]
enum NumberType {
    F32,
    F16,
    Bf16,
}

impl NumberType {
    fn named(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    fn size(self) -> usize {
        if let Self::F32 = self { 4 } else { 2 }
    }

    /// Appends the numbers of `bytes` to `numbers`.
    fn widen(self, bytes: &[u8], numbers: &mut Vec<f32>) {
        let halves = || bytes.as_chunks::<2>().0.iter().map(|&half| u16::from_le_bytes(half));
        match self {
            Self::F32 => {
                let words = bytes.as_chunks::<4>().0;
                numbers.extend(words.iter().map(|&word| f32::from_le_bytes(word)));
            }
            Self::Bf16 => {
                numbers.extend(halves().map(|bits| f32::from_bits(u32::from(bits) << 16)));
            }
            Self::F16 => numbers.extend(halves().map(f32_from_f16)),
        }
    }
}

/// An IEEE half-precision number; every one of them is an `f32`.
fn f32_from_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let sign = u32::from(bits & 0x8000) << 16;
    let value = match magnitude >> 10 {
        // Infinity and not-a-number keep their mark and payload.
        31 => f32::from_bits(0x7f80_0000 | (magnitude & 0x3ff) << 13),
        // Subnormal: the fraction counts units of 2^-24.
        0 => magnitude as f32 / 16_777_216.0,
        // The exponent's bias goes from 15 to 127.
        _ => f32::from_bits((magnitude << 13) + ((127 - 15) << 23)),
    };
    f32::from_bits(value.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstar_core::{Fault, FaultClass};
    use safetensors::tensor::TensorView;

    #[test]
    fn half_precision_numbers_are_widened_exactly() {
        for (bits, expected) in [
            (0x0000_u16, 0.0_f32),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(f32_from_f16(bits), expected, "{bits:#x}");
        }
        assert!(f32_from_f16(0x7e00).is_nan());
        assert!(f32_from_f16(0x8000).is_sign_negative());
        let bytes: Vec<u8> = [0x3f80_u16, 0xc049].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut numbers = Vec::new();
        NumberType::Bf16.widen(&bytes, &mut numbers);
        assert_eq!(numbers, [1.0, -3.140_625]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_a_resource_fault() {
        let error = write_tensors(Path::new("/dev/full"), std::iter::empty()).unwrap_err();
        assert_eq!(Fault::from(error).class, FaultClass::Resource);
    }

    #[test]
    fn tensors_longer_than_a_piece_are_read_whole_and_others_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let long: Vec<f32> = (0..PIECE / 4 + 3).map(|i| i as f32).collect();
        let tensor = |name: &str, data| (name.to_owned(), vec![long.len()], data);
        let tensors = [tensor("a", &long[..]), tensor("b", &long[..]), tensor("c", &long[..])];
        write_tensors(&path, tensors.into_iter()).unwrap();
        let read = read_tensors(&path, |name, _| Ok(name != "b")).unwrap();
        let names: Vec<_> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(read.iter().all(|(_, tensor)| tensor.data == long));
    }

    #[test]
    fn a_written_file_has_the_bytes_that_the_library_of_the_format_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let numbers = [1.5, -2.0, f32::MIN_POSITIVE, 7e30, 0.0, -0.0];
        let tensors = [("b", vec![2, 3], 6), ("a.weight", vec![1], 1), ("none", vec![0, 4], 0)];
        let ours = tensors.iter().map(|(n, s, count)| ((*n).into(), s.clone(), &numbers[..*count]));
        write_tensors(&path, ours).unwrap();
        let bytes = little_endian_bytes(&numbers);
        let views = tensors.map(|(name, shape, count)| {
            (name, TensorView::new(Dtype::F32, shape, &bytes[..4 * count]).unwrap())
        });
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let theirs = safetensors::serialize(views, Some(format)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), theirs);
        let read = read_tensors(&path, |_, _| Ok(true)).unwrap();
        assert_eq!(read.iter().map(|(_, tensor)| tensor.data.len()).sum::<usize>(), 7);
    }

    #[test]
    fn a_file_that_shrinks_after_its_header_was_checked_is_refused_before_it_is_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let numbers = vec![1.0; 5000];
        write_tensors(&path, [("a".to_owned(), vec![5000], &numbers[..])].into_iter()).unwrap();
        let len = std::fs::metadata(&path).unwrap().len();
        let mut reader = Reader::open(&path).unwrap();
        let header = reader.header().unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len - 1).unwrap();
        let error = reader.numbers(NumberType::F32, &header[0].1).unwrap_err();
        let fault = Fault::from(error);
        assert_eq!(fault.class, FaultClass::Data);
        assert!(fault.message.contains("x.safetensors: it became shorter"), "{fault}");
    }
}
