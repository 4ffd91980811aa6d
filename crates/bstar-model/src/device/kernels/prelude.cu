// What every kernel uses: numbers as they are stored, places in a block, sums in a fixed order.
//
// The files of this folder are one program, compiled when a device is opened. `REAL_BF16` says how
// activations and matrices are stored (`real`): as bfloat16, or else as float. Sums, the residual
// stream, norms, biases and everything the optimizer keeps are float. Nothing is added atomically, so
// the same inputs give the same bits.
//
// Tests compile the same text as C++ (`EMULATED`): a block's threads are then fibers that meet at the
// same barriers. That is why dynamic shared memory is asked for with SHARED.

#ifndef EMULATED
#define SHARED(type, name) extern __shared__ type name[]
#endif

#define DEVICE __device__ __forceinline__
#define EVERY_LANE 0xffffffffu
#define MINUS_INFINITY (-__int_as_float(0x7f800000))

DEVICE float load(float x) { return x; }
DEVICE void put(float* to, float x) { *to = x; }

#ifdef REAL_BF16
// The upper half of a float.
struct real {
    unsigned short bits;
};

DEVICE float load(real x) { return __uint_as_float((unsigned)x.bits << 16); }

// Rounds to the nearest, ties to even; what is not a number stays so.
DEVICE void put(real* to, float x) {
    unsigned bits = __float_as_uint(x);
    bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    to->bits = (unsigned short)(is_nan ? (bits >> 16) | 0x40u : rounded);
}
#else
typedef float real;
#endif

DEVICE int lane_index() { return threadIdx.x & 31; }
DEVICE int warp_index() { return threadIdx.x >> 5; }
DEVICE int warp_count() { return blockDim.x >> 5; }

// The number of a thread in a grid of one dimension.
DEVICE size_t thread_number() { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }

// Every lane gets the sum of all: the same bits, because each pair adds the same two numbers.
template <class T>
DEVICE T warp_sum(T x) {
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(EVERY_LANE, x, step);
    return x;
}

DEVICE float warp_max(float x) {
    for (int step = 16; step > 0; step >>= 1) x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, step));
    return x;
}

// Every thread of the block gets the sum of all; every thread has to call it.
template <class T>
DEVICE T block_sum(T x) {
    __shared__ T sums[32];
    x = warp_sum(x);
    // Numbers of an earlier call have been read.
    __syncthreads();
    if (lane_index() == 0) sums[warp_index()] = x;
    __syncthreads();
    T total = sums[0];
    for (int warp = 1; warp < warp_count(); warp++) total += sums[warp];
    return total;
}

DEVICE float block_max(float x) {
    __shared__ float largest[32];
    x = warp_max(x);
    __syncthreads();
    if (lane_index() == 0) largest[warp_index()] = x;
    __syncthreads();
    float result = largest[0];
    for (int warp = 1; warp < warp_count(); warp++) result = fmaxf(result, largest[warp]);
    return result;
}

// Rows of `width` numbers in a wider buffer: `heads` of them side by side from `offset` on, `stride`
// from one token to the next. A plain matrix has one head, its width as stride and no offset.
struct Rows {
    int heads;
    int width;
    int stride;
    int offset;
};

DEVICE size_t row_start(Rows rows, int row) {
    size_t token = row / rows.heads;
    return token * rows.stride + rows.offset + (size_t)(row % rows.heads) * rows.width;
}
