//! Tensor files in the safetensors format: eight bytes with the length of the header, a header of
//! JSON, the numbers.
//!
//! A file comes from strangers. Its header is bounded and checked as a whole before any number is
//! read: no name twice, sizes that fit types and shapes, and tensors that follow one another from
//! the first byte to the last. Tensors are then read one at a time and widened to `f32` on the way,
//! so that a file is never in memory beside its numbers.

use crate::files::{self, FileError};
use crate::folder::FolderError;
use crate::weights::{WeightTensor, little_endian_bytes};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
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
            reader.skip(entry.bytes())?;
            continue;
        }
        let Some(numbers) = NumberType::named(&entry.dtype) else {
            let (tensor, found) = (name, entry.dtype);
            return Err(FolderError::NumberType { tensor, path: path.into(), found });
        };
        let data = reader.numbers(numbers, entry.bytes())?;
        read.push((name, WeightTensor { shape, data }));
    }
    Ok(read)
}

/// Writes a file of `f32` tensors and flushes it to the disk.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, Vec<usize>, &'a [f32])>,
) -> Result<(), FolderError> {
    let bytes: Vec<_> =
        tensors.map(|(name, shape, data)| (name, shape, little_endian_bytes(data))).collect();
    let views: Vec<_> = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name.as_str(), view.expect("four bytes for each number"))
        })
        .collect();
    // `transformers` refuses files without it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).expect("the views are valid");
    Ok(files::write_synced(path, &file)?)
}

/// Bytes of the largest header that is read: a hundred thousand tensors need less.
const LARGEST_HEADER: u64 = 1 << 24;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

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
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Result<Self, FolderError> {
        let open = || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok(Self { path, file, len })
        };
        open().map_err(|source| FileError::reading(path, source).into())
    }

    /// The tensors in the order of their bytes; the file then stands before the first.
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
        let rest = (self.len - 8).checked_sub(length);
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

    /// The next tensor, of `bytes` bytes, which the header's check found in the file.
    fn numbers(&mut self, numbers: NumberType, bytes: u64) -> Result<Vec<f32>, FolderError> {
        let bytes = usize::try_from(bytes).map_err(|_| self.broken("it is too large"))?;
        let mut data = Vec::with_capacity(bytes / numbers.size());
        let mut buffer = vec![0; CHUNK.min(bytes)];
        let mut left = bytes;
        while left > 0 {
            let chunk = &mut buffer[..CHUNK.min(left)];
            self.fill(chunk)?;
            numbers.widen(chunk, &mut data);
            left -= chunk.len();
        }
        Ok(data)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), FolderError> {
        let bytes = i64::try_from(bytes).expect("no file is longer");
        let moved = self.file.seek(SeekFrom::Current(bytes));
        moved.map(drop).map_err(|source| FileError::reading(self.path, source).into())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), FolderError> {
        let read = self.file.read_exact(buffer);
        read.map_err(|source| FileError::reading(self.path, source).into())
    }

    fn broken(&self, reason: impl Into<String>) -> FolderError {
        FolderError::Broken { path: self.path.into(), reason: reason.into() }
    }
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
    fn tensors_longer_than_a_chunk_are_read_whole_and_others_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let long: Vec<f32> = (0..CHUNK / 2 + 3).map(|i| i as f32).collect();
        let tensor = |name: &str, data| (name.to_owned(), vec![long.len()], data);
        let tensors = [tensor("a", &long[..]), tensor("b", &long[..]), tensor("c", &long[..])];
        write_tensors(&path, tensors.into_iter()).unwrap();
        let read = read_tensors(&path, |name, _| Ok(name != "b")).unwrap();
        let names: Vec<_> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(read.iter().all(|(_, tensor)| tensor.data == long));
    }
}
