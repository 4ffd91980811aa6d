// Rows by index: the token embedding, the positions that the loss is taken at, and their gradients.
// A block takes one row.

// x[i] = table[tokens[i]], into the residual stream.
extern "C" __global__ void embed(float* x, const real* table, const unsigned* tokens, int width) {
    const real* from = table + (size_t)tokens[blockIdx.x] * width;
    float* to = x + (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = load(from[i]);
}

// gradient[token] += the rows of grad_x where the token stands, in their order. Block b takes the
// token `distinct[b]`, which stands at rows[begins[b]] to rows[begins[b + 1] - 1].
extern "C" __global__ void embed_backward(float* gradient, const float* grad_x,
                                          const unsigned* distinct, const unsigned* begins,
                                          const unsigned* rows, int width) {
    float* to = gradient + (size_t)distinct[blockIdx.x] * width;
    unsigned begin = begins[blockIdx.x], end = begins[blockIdx.x + 1];
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float sum = to[i];
        for (unsigned at = begin; at < end; at++) sum += grad_x[(size_t)rows[at] * width + i];
        to[i] = sum;
    }
}

// y[i] = x[rows[i]].
extern "C" __global__ void gather_rows(real* y, const real* x, const unsigned* rows, int width) {
    const real* from = x + (size_t)rows[blockIdx.x] * width;
    real* to = y + (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = from[i];
}

// y[rows[i]] = x[i]; no row occurs twice.
extern "C" __global__ void scatter_rows(real* y, const real* x, const unsigned* rows, int width) {
    const real* from = x + (size_t)blockIdx.x * width;
    real* to = y + (size_t)rows[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = from[i];
}

// Fills each row of y with the bias, for a product to add to.
extern "C" __global__ void fill_rows(real* y, const float* bias, int width) {
    real* to = y + (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) put(to + i, bias[i]);
}

extern "C" __global__ void convert(real* y, const float* x, size_t count) {
    size_t i = thread_number();
    if (i < count) put(y + i, x[i]);
}
