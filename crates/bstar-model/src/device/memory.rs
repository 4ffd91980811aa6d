//! Memory of a device that is given back when it is dropped.
//!
//! A [`Buffer`] has a number of elements of one type; [`Real`] is what the device's precision says. A
//! [`Place`] is an address in a buffer, for kernels: it may not outlive the buffer, which the code that
//! takes places sees to.

use super::accelerator::{Accelerator, Argument, NumberType, Operand};
use super::{Device, Precision};
use bstar_core::Fault;
use std::marker::PhantomData;
use std::sync::Arc;

/// A number of activations and matrices: `f32` or bfloat16.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Real {}

/// A type of numbers on a device.
pub(crate) trait Element {
    /// Bytes of one.
    fn size(precision: Precision) -> usize;
}

impl Element for f32 {
    fn size(_: Precision) -> usize {
        4
    }
}

impl Element for u32 {
    fn size(_: Precision) -> usize {
        4
    }
}

impl Element for f64 {
    fn size(_: Precision) -> usize {
        8
    }
}

impl Element for Real {
    fn size(precision: Precision) -> usize {
        match precision {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

/// An element of which matrices are made.
pub(crate) trait Number: Element {
    /// How it is stored.
    fn stored(precision: Precision) -> NumberType;
}

impl Number for f32 {
    fn stored(_: Precision) -> NumberType {
        NumberType::Float
    }
}

impl Number for Real {
    fn stored(precision: Precision) -> NumberType {
        match precision {
            Precision::F32 => NumberType::Float,
            Precision::Bf16 => NumberType::Bfloat,
        }
    }
}

/// An address in a buffer.
#[derive(Debug)]
pub(crate) struct Place<T> {
    address: u64,
    element: PhantomData<T>,
}

impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<T> {}

impl<T> Place<T> {
    /// No place: a null pointer.
    pub(crate) const NONE: Self = Self { address: 0, element: PhantomData };

    /// The same address for another type.
    fn cast<U>(self) -> Place<U> {
        Place { address: self.address, element: PhantomData }
    }
}

impl Place<u32> {
    /// The doubles that were uploaded as words.
    pub(crate) fn as_doubles(self) -> Place<f64> {
        self.cast()
    }
}

impl<T> From<Place<T>> for Argument {
    fn from(place: Place<T>) -> Self {
        Self::Address(place.address)
    }
}

impl<T: Number> Place<T> {
    /// As a matrix whose columns (rows, in our convention) are `stride` apart.
    pub(crate) fn operand(self, device: &Device, stride: usize, transposed: bool) -> Operand {
        let numbers = T::stored(device.precision());
        Operand { address: self.address, numbers, stride, transposed }
    }
}

/// Elements on a device.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    device: Arc<dyn Accelerator>,
    address: u64,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// Room for `len` elements, whose values are arbitrary.
    pub(crate) fn new(device: &Device, len: usize) -> Result<Self, Fault> {
        let device = Arc::clone(&device.accelerator);
        // Every buffer has an address of its own.
        let address = device.allocate(len.max(1) * T::size(device.precision()))?;
        Ok(Self { device, address, len, element: PhantomData })
    }

    /// Zeros.
    pub(crate) fn zeros(device: &Device, len: usize) -> Result<Self, Fault> {
        let buffer = Self::new(device, len)?;
        buffer.clear()?;
        Ok(buffer)
    }

    /// Its first element.
    pub(crate) fn place(&self) -> Place<T> {
        Place { address: self.address, element: PhantomData }
    }

    /// Element `index`.
    ///
    /// # Panics
    /// If it lies behind the end.
    pub(crate) fn at(&self, index: usize) -> Place<T> {
        assert!(index <= self.len, "{index} is behind the end of {} elements", self.len);
        let offset = (index * T::size(self.device.precision())) as u64;
        Place { address: self.address + offset, element: PhantomData }
    }

    /// Makes room for `len` elements if there is less; the values are then arbitrary.
    pub(crate) fn grow(&mut self, device: &Device, len: usize) -> Result<(), Fault> {
        if self.len < len {
            // The old memory is given back first: the two may not fit together.
            *self = Self::new(device, 0)?;
            *self = Self::new(device, len)?;
        }
        Ok(())
    }

    /// Sets all elements to zero.
    pub(crate) fn clear(&self) -> Result<(), Fault> {
        self.clear_first(self.len)
    }

    /// Sets the first elements to zero.
    pub(crate) fn clear_first(&self, count: usize) -> Result<(), Fault> {
        assert!(count <= self.len, "as many as there are, at most");
        self.device.clear(self.address, count * T::size(self.device.precision()))
    }

    /// Copies the first `count` elements of another buffer to its own first.
    pub(crate) fn copy_from(&self, other: &Self, count: usize) -> Result<(), Fault> {
        assert!(count <= self.len && count <= other.len, "both buffers have so many");
        let bytes = count * T::size(self.device.precision());
        self.device.copy(other.address, self.address, bytes)
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.device.release(self.address);
    }
}

/// A number that the host knows.
pub(crate) trait HostNumber: Element + Copy {
    /// The numbers as bytes.
    fn to_bytes(numbers: &[Self]) -> Vec<u8>
    where
        Self: Sized;
    /// The numbers of bytes.
    fn from_bytes(bytes: &[u8]) -> Vec<Self>
    where
        Self: Sized;
}

macro_rules! host_number {
    ($($number:ty),*) => {$(
        impl HostNumber for $number {
            fn to_bytes(numbers: &[Self]) -> Vec<u8> {
                numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
            }

            fn from_bytes(bytes: &[u8]) -> Vec<Self> {
                let (words, rest) = bytes.as_chunks::<{ size_of::<$number>() }>();
                assert!(rest.is_empty(), "whole numbers");
                words.iter().map(|&word| <$number>::from_ne_bytes(word)).collect()
            }
        }
    )*};
}

host_number!(f32, u32, f64);

impl<T: HostNumber> Buffer<T> {
    /// The numbers of the host.
    pub(crate) fn of(device: &Device, numbers: &[T]) -> Result<Self, Fault> {
        let buffer = Self::new(device, numbers.len())?;
        buffer.upload(0, numbers)?;
        Ok(buffer)
    }

    /// Overwrites elements from `first` on.
    pub(crate) fn upload(&self, first: usize, numbers: &[T]) -> Result<(), Fault> {
        assert!(first + numbers.len() <= self.len, "the numbers fit");
        let to = self.address + (first * T::size(self.device.precision())) as u64;
        if numbers.is_empty() { Ok(()) } else { self.device.upload(&T::to_bytes(numbers), to) }
    }

    /// The first `count` numbers.
    pub(crate) fn download(&self, count: usize) -> Result<Vec<T>, Fault> {
        assert!(count <= self.len, "as many as there are, at most");
        let mut bytes = vec![0; count * T::size(self.device.precision())];
        if count > 0 {
            self.device.download(self.address, &mut bytes)?;
        }
        Ok(T::from_bytes(&bytes))
    }
}

impl Buffer<Real> {
    /// The numbers of the host, rounded if the device stores less of them.
    pub(crate) fn rounded(device: &Device, numbers: &[f32]) -> Result<Self, Fault> {
        let buffer = Self::new(device, numbers.len())?;
        let bytes: Vec<u8> = match device.precision() {
            Precision::F32 => f32::to_bytes(numbers),
            Precision::Bf16 => {
                numbers.iter().flat_map(|&number| to_bfloat(number).to_ne_bytes()).collect()
            }
        };
        if !bytes.is_empty() {
            buffer.device.upload(&bytes, buffer.address)?;
        }
        Ok(buffer)
    }
}

/// Numbers of which a `f32` copy is kept, as they are read by products: the copy itself where they
/// are stored alike.
pub(crate) fn as_real(device: &Device, numbers: Place<f32>) -> Option<Place<Real>> {
    (device.precision() == Precision::F32).then(|| numbers.cast())
}

/// The upper half of an `f32`, rounded to the nearest, ties to even; what is not a number stays so.
pub(crate) fn to_bfloat(number: f32) -> u16 {
    let bits = number.to_bits();
    let upper = if number.is_nan() {
        bits >> 16 | 0x40
    } else {
        // The largest numbers round to infinity; no carry leaves the word.
        bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16
    };
    u16::try_from(upper).expect("the upper half of a word")
}
