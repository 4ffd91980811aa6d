//! NVIDIA cards: the only file that knows CUDA.
//!
//! Driver, cuBLAS and NVRTC are loaded when a card is opened, so that nothing of them is needed to
//! build, and the same program runs where there are none. The kernels are compiled for the card by
//! NVRTC then (some seconds). All work goes to one stream; memory comes from the driver's pool, which
//! keeps what was given back. Products are cuBLAS's, with sums in `f32` and without TF32: on one stream
//! they give the same bits every time.
//!
//! Not run on a card yet: `docs/design/engine.md` tells what was checked instead.

use super::accelerator::{Accelerator, Argument, Launch, NumberType, Operand, Product};
use super::{Precision, kernels};
use bstar_core::{Fault, FaultClass};
use cudarc::cublas::{CudaBlas, result as blas, sys as blas_sys};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream, result, sys};
use cudarc::nvrtc::{Ptx, result as compiler, sys as compiler_sys};
use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::Arc;

/// The name of the first card.
pub(super) fn name_of_card() -> Result<String, Fault> {
    open_context()?.name().map_err(|error| fault("ask the card for its name", error))
}

/// A card with the kernels of one precision.
pub(super) struct Card {
    name: String,
    precision: Precision,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    functions: BTreeMap<String, CudaFunction>,
    blas: CudaBlas,
    pool: Pool,
    shared_memory: usize,
}

impl fmt::Debug for Card {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Card").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Card {
    /// Opens the first card and compiles the kernels.
    #[expect(unsafe_code, reason = "cudarc asks whether libraries can be loaded")]
    pub(super) fn open(precision: Precision) -> Result<Self, Fault> {
        let context = open_context()?;
        // SAFETY: loading the libraries runs no code but their initialisers.
        let found = unsafe {
            [
                ("NVRTC (libnvrtc)", cudarc::nvrtc::sys::is_culib_present()),
                ("cuBLAS (libcublas)", cudarc::cublas::sys::is_culib_present()),
            ]
        };
        if let Some((library, _)) = found.into_iter().find(|(_, is_there)| !is_there) {
            return Err(Fault::new(FaultClass::Usage, format!("cannot load {library}")).hint(
                "install the CUDA libraries, or `pip install nvidia-cublas-cu12 \
                 nvidia-cuda-nvrtc-cu12` and put their `lib` folders into LD_LIBRARY_PATH",
            ));
        }
        let name = context.name().map_err(|error| fault("ask the card for its name", error))?;
        let stream = context.new_stream().map_err(|error| fault("make a stream", error))?;
        let blas =
            CudaBlas::new(Arc::clone(&stream)).map_err(|error| fault("open cuBLAS", error))?;
        set_math(&blas)?;
        let attribute =
            sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let shared_memory =
            context.attribute(attribute).map_err(|error| fault("ask for shared memory", error))?;
        let functions = load_kernels(&context, precision, shared_memory)?;
        let shared_memory = usize::try_from(shared_memory).expect("a size");
        let pool = Pool::new(&context)?;
        Ok(Self { name, precision, context, stream, functions, blas, pool, shared_memory })
    }

    /// Makes the card that of the calling thread.
    fn bind(&self) -> Result<(), Fault> {
        self.context.bind_to_thread().map_err(|error| fault("use the card", error))
    }
}

#[expect(unsafe_code, reason = "the driver works on addresses; see `Accelerator`")]
impl Accelerator for Card {
    fn name(&self) -> &str {
        &self.name
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn free_memory(&self) -> Result<usize, Fault> {
        let told = self.context.mem_get_info();
        let (free, _) = told.map_err(|error| fault("ask for free memory", error))?;
        Ok(free + self.pool.kept()?)
    }

    fn shared_memory(&self) -> usize {
        self.shared_memory
    }

    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        self.bind()?;
        // SAFETY: the stream is open; the memory is given back by `release`.
        let address = unsafe { result::malloc_async(self.stream.cu_stream(), bytes) };
        address.map_err(|error| {
            fault(&format!("take {} MiB of the card's memory", bytes >> 20), error).hint(
                "use smaller batches, shorter texts or a smaller model, or set `run.device = \"cpu\"`",
            )
        })
    }

    fn release(&self, address: u64) {
        // Of a card that failed nothing is left to give back; the next call tells.
        // SAFETY: the address came from `allocate`; work that uses it was queued before.
        let _ = self
            .context
            .bind_to_thread()
            .and_then(|()| unsafe { result::free_async(address, self.stream.cu_stream()) });
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<(), Fault> {
        self.bind()?;
        // SAFETY: buffers clear bytes of their own.
        unsafe { result::memset_d8_async(address, 0, bytes, self.stream.cu_stream()) }
            .map_err(|error| fault("clear memory", error))
    }

    fn upload(&self, from: &[u8], to: u64) -> Result<(), Fault> {
        self.bind()?;
        // SAFETY: buffers copy to bytes of their own; the driver has copied pageable memory when this
        // returns.
        unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) }
            .map_err(|error| fault("copy to the card", error))
    }

    fn download(&self, from: u64, to: &mut [u8]) -> Result<(), Fault> {
        self.bind()?;
        // SAFETY: buffers copy from bytes of their own, and the stream is waited for.
        unsafe { result::memcpy_dtoh_async(to, from, self.stream.cu_stream()) }
            .and_then(|()| self.stream.synchronize())
            .map_err(|error| fault("copy from the card", error))
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), Fault> {
        self.bind()?;
        // SAFETY: buffers copy bytes of their own.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(|error| fault("copy on the card", error))
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        self.bind()?;
        let Launch { kernel, grid, threads, shared, arguments } = *launch;
        let function = self.functions.get(kernel).expect("every kernel was loaded");
        let mut values: Vec<[u8; 8]> = arguments.iter().copied().map(Argument::bytes).collect();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| value.as_mut_ptr().cast()).collect();
        let [x, y] = grid.map(size);
        // SAFETY: the arguments are those of the kernel, in its order and of its types (tests compile
        // the same text and count them); each lies in eight bytes that live until this returns.
        unsafe {
            result::launch_kernel(
                function.cu_function(),
                (x, y, 1),
                (size(threads), 1, 1),
                size(shared),
                self.stream.cu_stream(),
                &mut pointers,
            )
        }
        .map_err(|error| fault(&format!("launch `{kernel}`"), error))
    }

    fn multiply(&self, product: &Product) -> Result<(), Fault> {
        self.bind()?;
        let Product { size: [rows, columns, inner], alpha, a, b, add, c } = *product;
        let beta = if add { 1.0_f32 } else { 0.0 };
        let [rows, columns, inner] = [rows, columns, inner].map(length);
        let [lead_a, lead_b, lead_c] = [a, b, c].map(|operand| length(operand.stride));
        // SAFETY: the operands lie in buffers of these sizes; the factors live until this returns.
        unsafe {
            blas::gemm_ex(
                *self.blas.handle(),
                transposition(a),
                transposition(b),
                rows,
                columns,
                inner,
                (&raw const alpha).cast(),
                a.address as *const c_void,
                number_type(a),
                lead_a,
                b.address as *const c_void,
                number_type(b),
                lead_b,
                (&raw const beta).cast(),
                c.address as *mut c_void,
                number_type(c),
                lead_c,
                blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| fault("multiply matrices", error))
    }
}

/// The first card. Faults name what is missing.
#[expect(unsafe_code, reason = "cudarc asks whether the driver can be loaded")]
fn open_context() -> Result<Arc<CudaContext>, Fault> {
    let none = |what: &str| {
        Fault::new(FaultClass::Usage, format!("there is no NVIDIA card to use: {what}"))
            .hint("set `run.device = \"cpu\"`, or check `nvidia-smi`")
    };
    // SAFETY: loading the driver runs no code but its initialisers.
    if !unsafe { sys::is_culib_present() } {
        return Err(none("the driver (libcuda) cannot be loaded"));
    }
    let count = CudaContext::device_count();
    match count.map_err(|error| none("the driver does not start").because(error))? {
        0 => Err(none("the driver finds none")),
        _ => CudaContext::new(0).map_err(|error| fault("open the card", error)),
    }
}

/// The pool that memory comes from.
struct Pool {
    pool: sys::CUmemoryPool,
}

#[expect(unsafe_code, reason = "a handle of the driver may be used by every thread")]
// SAFETY: the driver's functions on pools may be called by any thread at any time.
unsafe impl Send for Pool {}
#[expect(unsafe_code, reason = "a handle of the driver may be used by every thread")]
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// The card's own pool, made to keep what is given back.
    #[expect(unsafe_code, reason = "the driver works on handles and addresses")]
    fn new(context: &CudaContext) -> Result<Self, Fault> {
        let wrong = |error| fault("use the card's memory pool", error);
        let mut most = u64::MAX;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the device is open; the attribute is a 64-bit number.
        let pool = unsafe {
            let pool = result::device::get_default_mem_pool(context.cu_device()).map_err(wrong)?;
            let value = (&raw mut most).cast();
            result::mem_pool::set_attribute(pool, attribute, value).map_err(wrong)?;
            pool
        };
        Ok(Self { pool })
    }

    /// Bytes that were given back and are kept.
    fn kept(&self) -> Result<usize, Fault> {
        let reserved = self.read(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
        let used = self.read(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
        Ok(usize::try_from(reserved.saturating_sub(used)).unwrap_or(usize::MAX))
    }

    #[expect(unsafe_code, reason = "the driver works on handles and addresses")]
    fn read(&self, attribute: sys::CUmemPool_attribute) -> Result<u64, Fault> {
        let mut value = 0_u64;
        // SAFETY: the pool is that of an open device; the attributes we read are 64-bit numbers.
        unsafe { result::mem_pool::get_attribute(self.pool, attribute, (&raw mut value).cast()) }
            .map_err(|error| fault("ask the card's memory pool", error))?;
        Ok(value)
    }
}

/// Products of bfloat16 are summed in `f32`, also between parts of a split sum.
#[expect(unsafe_code, reason = "cuBLAS works on handles")]
fn set_math(handle: &CudaBlas) -> Result<(), Fault> {
    let mode = blas_sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    // SAFETY: the handle is open.
    unsafe { blas_sys::cublasSetMathMode(*handle.handle(), mode) }
        .result()
        .map_err(|error| fault("set up cuBLAS", error))
}

/// Compiles the kernels for a card and loads them, each with all the shared memory a block can have.
fn load_kernels(
    context: &Arc<CudaContext>,
    precision: Precision,
    shared_memory: i32,
) -> Result<BTreeMap<String, CudaFunction>, Fault> {
    let (major, minor) =
        context.compute_capability().map_err(|error| fault("ask for the card's kind", error))?;
    if major < OLDEST {
        let message = format!("the card is of compute capability {major}.{minor}");
        return Err(Fault::new(FaultClass::Usage, message)
            .hint("cards from 8.0 on (Ampere) are supported; set `run.device = \"cpu\"`"));
    }
    let source = kernels::source();
    let image = compile(&source, precision, &format!("sm_{major}{minor}"))
        // A compiler that does not know the card gives what its driver can translate.
        .or_else(|_| compile(&source, precision, "compute_80"))?;
    let module = context.load_module(image).map_err(|error| fault("load the kernels", error))?;
    let mut functions = BTreeMap::new();
    for name in kernels::names(&source) {
        let wrong = |error| fault(&format!("load `{name}`"), error);
        let function = module.load_function(&name).map_err(wrong)?;
        let own = function.shared_size_bytes().map_err(wrong)?;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, shared_memory - own).map_err(wrong)?;
        functions.insert(name, function);
    }
    Ok(functions)
}

/// The oldest major compute capability that multiplies bfloat16.
const OLDEST: i32 = 8;

/// Compiles for `sm_…` (binary) or `compute_…` (text that a driver translates).
#[expect(unsafe_code, reason = "NVRTC works on handles and addresses")]
fn compile(source: &str, precision: Precision, architecture: &str) -> Result<Ptx, Fault> {
    let wrong = |what: &str| {
        Fault::new(
            FaultClass::Bug,
            format!("cannot compile the kernels for {architecture}: {what}"),
        )
    };
    let text = CString::new(source).expect("a source without NUL");
    let program = compiler::create_program(&text, Some(c"kernels.cu"))
        .map_err(|error| wrong("NVRTC does not start").because(error))?;
    let mut options = vec![format!("--gpu-architecture={architecture}"), "-std=c++17".to_owned()];
    if precision == Precision::Bf16 {
        options.push("-DREAL_BF16".to_owned());
    }
    // SAFETY: the program was just made, and is destroyed once.
    unsafe {
        let compiled = compiler::compile_program(program, &options);
        let image = match compiled {
            Err(error) => {
                let log = compiler::get_program_log(program).unwrap_or_default();
                let log: Vec<u8> = log.iter().map(|byte| byte.to_ne_bytes()[0]).collect();
                Err(wrong(&String::from_utf8_lossy(&log)).because(error))
            }
            Ok(()) if architecture.starts_with("sm_") => cubin(program)
                .map(Ptx::from_binary)
                .map_err(|error| wrong("no binary").because(error)),
            Ok(()) => compiler::get_ptx(program)
                .map(|text| Ptx::from_binary(text.iter().map(|b| b.to_ne_bytes()[0]).collect()))
                .map_err(|error| wrong("no text").because(error)),
        };
        // Nothing depends on whether the compiler could clean up.
        let _ = compiler::destroy_program(program);
        image
    }
}

/// The binary of a compiled program.
#[expect(unsafe_code, reason = "NVRTC works on handles and addresses")]
fn cubin(program: compiler_sys::nvrtcProgram) -> Result<Vec<u8>, compiler::NvrtcError> {
    let mut size = 0;
    // SAFETY: the program is open, and the second call writes as many bytes as the first one says.
    unsafe {
        compiler_sys::nvrtcGetCUBINSize(program, &raw mut size).result()?;
        let mut binary = vec![0_u8; size];
        compiler_sys::nvrtcGetCUBIN(program, binary.as_mut_ptr().cast()).result()?;
        Ok(binary)
    }
}

fn transposition(operand: Operand) -> blas_sys::cublasOperation_t {
    if operand.transposed {
        blas_sys::cublasOperation_t::CUBLAS_OP_T
    } else {
        blas_sys::cublasOperation_t::CUBLAS_OP_N
    }
}

fn number_type(operand: Operand) -> blas_sys::cudaDataType {
    match operand.numbers {
        NumberType::Float => blas_sys::cudaDataType::CUDA_R_32F,
        NumberType::Bfloat => blas_sys::cudaDataType::CUDA_R_16BF,
    }
}

/// A size as the driver takes it.
fn size(number: usize) -> u32 {
    u32::try_from(number).expect("sizes are below 2^32")
}

/// A size as BLAS takes it.
fn length(number: usize) -> i32 {
    i32::try_from(number).expect("sizes are below 2^31")
}

/// A call that failed: the card, its driver or a library of it.
fn fault(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::new(FaultClass::Resource, format!("cannot {what}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs NVRTC, but no card.
    #[test]
    #[ignore = "needs NVRTC"]
    fn every_kernel_compiles_for_every_card() {
        let source = kernels::source();
        for precision in [Precision::F32, Precision::Bf16] {
            for architecture in ["sm_80", "sm_86", "sm_89", "sm_90", "compute_80"] {
                compile(&source, precision, architecture).unwrap();
            }
        }
    }
}
