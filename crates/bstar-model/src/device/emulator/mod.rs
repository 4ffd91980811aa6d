//! A device that is not there: the kernels compiled as C++ and run on the CPU, one block after another
//! (tests only).
//!
//! So everything above [`Accelerator`] runs in ordinary tests, kernels included; only the binding to a
//! driver needs a card. Fresh memory is not-a-number, products are taken number by number in the
//! convention of BLAS, and what is written outside a buffer is noticed when the buffer is given back.
//! Where there is no C++ compiler the tests say that they were skipped.

use super::accelerator::{Accelerator, Argument, Launch, NumberType, Operand, Product};
use super::memory::to_bfloat;
use super::{Device, Precision, kernels};
use bstar_core::Fault;
use libloading::Library;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

/// An emulated device; none, with a note, where there is no C++ compiler.
pub(super) fn device(precision: Precision) -> Option<Device> {
    static PROGRAMS: LazyLock<Option<[Arc<Library>; 2]>> = LazyLock::new(compile_both);
    let Some([f32, bf16]) = &*PROGRAMS else {
        eprintln!("skipped: no C++ compiler for the emulated device");
        return None;
    };
    let program = Arc::clone(if precision == Precision::F32 { f32 } else { bf16 });
    let allocations = Mutex::new(BTreeMap::new());
    Some(Device { accelerator: Arc::new(Emulator { program, precision, allocations }) })
}

/// Its name.
pub(super) const NAME: &str = "the emulated device";

#[derive(Debug)]
struct Emulator {
    program: Arc<Library>,
    precision: Precision,
    /// By the address of the first byte behind the margin.
    allocations: Mutex<BTreeMap<u64, Box<[u64]>>>,
}

type LaunchKernel = unsafe extern "C" fn(
    *const c_char,
    *const c_uint,
    c_uint,
    usize,
    *mut *mut c_void,
    c_int,
) -> c_int;

/// Words around a buffer that nobody may write.
const MARGIN: usize = 16;
const UNTOUCHED: u64 = 0x7fc0_dead_7fc0_beef;
/// Not-a-number, as `f32` and as bfloat16.
const FRESH: u64 = 0x7fc0_7fc0_7fc0_7fc0;

impl Emulator {
    /// Checks that bytes lie in a buffer.
    fn check(&self, address: u64, bytes: usize) {
        let allocations = self.allocations.lock().unwrap();
        let (start, words) = allocations.range(..=address).next_back().expect("a buffer");
        let len = (words.len() - 2 * MARGIN) * size_of::<u64>();
        let offset = usize::try_from(address - start).unwrap();
        assert!(offset + bytes <= len, "{bytes} bytes at {offset} of a buffer of {len}");
    }
}

impl Accelerator for Emulator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn free_memory(&self) -> Result<usize, Fault> {
        Ok(64 << 20)
    }

    fn shared_memory(&self) -> usize {
        160 << 10
    }

    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        let words = bytes.div_ceil(size_of::<u64>());
        let mut memory = vec![FRESH; words + 2 * MARGIN].into_boxed_slice();
        memory[..MARGIN].fill(UNTOUCHED);
        memory[words + MARGIN..].fill(UNTOUCHED);
        let address = memory[MARGIN..].as_mut_ptr() as u64;
        self.allocations.lock().unwrap().insert(address, memory);
        Ok(address)
    }

    fn release(&self, address: u64) {
        let memory = self.allocations.lock().unwrap().remove(&address).expect("a buffer");
        let end = memory.len() - MARGIN;
        let margins = memory[..MARGIN].iter().chain(&memory[end..]);
        // A test that failed already says enough.
        if !std::thread::panicking() {
            assert!(margins.copied().all(|word| word == UNTOUCHED), "written outside a buffer");
        }
    }

    #[expect(unsafe_code, reason = "addresses are those of our own memory")]
    fn clear(&self, address: u64, bytes: usize) -> Result<(), Fault> {
        self.check(address, bytes);
        // SAFETY: the bytes lie in an allocation, which nobody else uses meanwhile.
        unsafe { std::ptr::write_bytes(address as *mut u8, 0, bytes) };
        Ok(())
    }

    #[expect(unsafe_code, reason = "addresses are those of our own memory")]
    fn upload(&self, from: &[u8], to: u64) -> Result<(), Fault> {
        self.check(to, from.len());
        // SAFETY: the bytes lie in an allocation, which nobody else uses meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    #[expect(unsafe_code, reason = "addresses are those of our own memory")]
    fn download(&self, from: u64, to: &mut [u8]) -> Result<(), Fault> {
        self.check(from, to.len());
        // SAFETY: the bytes lie in an allocation, which nobody else uses meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), Fault> {
        let mut between = vec![0; bytes];
        self.download(from, &mut between)?;
        self.upload(&between, to)
    }

    #[expect(unsafe_code, reason = "the kernels are C++")]
    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        let Launch { kernel, grid, threads, shared, arguments } = *launch;
        let mut values: Vec<[u8; 8]> = arguments.iter().copied().map(Argument::bytes).collect();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| value.as_mut_ptr().cast()).collect();
        let name = CString::new(kernel).unwrap();
        let grid = grid.map(|blocks| c_uint::try_from(blocks).unwrap());
        let count = c_int::try_from(arguments.len()).unwrap();
        // SAFETY: the library has the function with this type; a kernel touches what its arguments
        // point to, which are our allocations.
        let status = unsafe {
            let launch = self.program.get::<LaunchKernel>(b"emulated_launch").unwrap();
            let threads = c_uint::try_from(threads).unwrap();
            launch(name.as_ptr(), grid.as_ptr(), threads, shared, pointers.as_mut_ptr(), count)
        };
        assert_ne!(status, 1, "there is no kernel `{kernel}`");
        assert_ne!(status, 2, "`{kernel}` does not take {count} arguments");
        Ok(())
    }

    fn multiply(&self, product: &Product) -> Result<(), Fault> {
        let Product { size: [rows, columns, inner], alpha, a, b, add, c } = *product;
        let [left, right] = [(a, rows, inner), (b, inner, columns)]
            .map(|(operand, rows, columns)| self.read(operand, rows, columns));
        let mut result = self.read(c, rows, columns);
        for column in 0..columns {
            for row in 0..rows {
                let sum: f32 =
                    (0..inner).map(|k| left[row + k * rows] * right[k + column * inner]).sum();
                let place = &mut result[row + column * rows];
                *place = if add { *place + alpha * sum } else { alpha * sum };
            }
        }
        self.write(c, rows, columns, &result);
        Ok(())
    }
}

impl Emulator {
    /// A matrix, column after column.
    fn read(&self, operand: Operand, rows: usize, columns: usize) -> Vec<f32> {
        let Operand { address, numbers, stride, transposed } = operand;
        let (lines, length) = if transposed { (rows, columns) } else { (columns, rows) };
        assert!(stride >= length, "columns do not overlap");
        let bytes = if numbers == NumberType::Float { 4 } else { 2 };
        let mut matrix = vec![0.0; rows * columns];
        for line in 0..lines {
            let mut memory = vec![0; length * bytes];
            self.download(address + (line * stride * bytes) as u64, &mut memory).unwrap();
            for (at, number) in memory.chunks_exact(bytes).enumerate() {
                let mut word = [0; 4];
                word[4 - bytes..].copy_from_slice(number);
                let place = if transposed { line + at * rows } else { at + line * rows };
                matrix[place] = f32::from_le_bytes(word);
            }
        }
        matrix
    }

    fn write(&self, operand: Operand, rows: usize, columns: usize, matrix: &[f32]) {
        for column in 0..columns {
            let numbers = &matrix[column * rows..][..rows];
            let bytes: Vec<u8> = match operand.numbers {
                NumberType::Float => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
                NumberType::Bfloat => {
                    numbers.iter().flat_map(|&x| to_bfloat(x).to_le_bytes()).collect()
                }
            };
            let size = bytes.len() / rows;
            self.upload(&bytes, operand.address + (column * operand.stride * size) as u64).unwrap();
        }
    }
}

/// The programs of both precisions, compiled side by side; none without a compiler.
fn compile_both() -> Option<[Arc<Library>; 2]> {
    let compiler = ["c++", "g++", "clang++"].into_iter().find(|compiler| {
        Command::new(compiler).arg("--version").output().is_ok_and(|output| output.status.success())
    })?;
    let dir = tempfile::tempdir().unwrap();
    let compile = |precision| compile(compiler, dir.path(), precision);
    let (f32, bf16) = rayon::join(|| compile(Precision::F32), || compile(Precision::Bf16));
    Some([Arc::new(f32), Arc::new(bf16)])
}

#[expect(unsafe_code, reason = "the kernels are C++")]
fn compile(compiler: &str, dir: &Path, precision: Precision) -> Library {
    let define = if precision == Precision::Bf16 { "#define REAL_BF16\n" } else { "" };
    let kernels = kernels::source();
    let entry = |name: &String| {
        format!("{{\"{name}\", emulation::Call<&{name}>::count, emulation::Call<&{name}>::run}},\n")
    };
    let entries: Vec<String> = kernels::names(&kernels).iter().map(entry).collect();
    let entries = entries.concat();
    let text = format!(
        "{}\n{define}{kernels}\nstatic const emulation::Entry entries[] = {{\n{entries}}};\n{}",
        include_str!("shim.hpp"),
        include_str!("entry.hpp")
    );
    let source = dir.join(format!("{precision:?}.cpp"));
    let library = dir.join(format!("{precision:?}.so"));
    std::fs::write(&source, text).unwrap();
    let output = Command::new(compiler)
        .args(["-std=c++17", "-O2", "-w", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-o"])
        .args([&library, &source])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: loading it runs no code but the initialisers of the standard library.
    unsafe { Library::new(&library) }.unwrap()
}
