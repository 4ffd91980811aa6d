// Root-mean-square norms of the residual stream and of query and key heads, and what belongs to them:
// y = x r w with r = 1 / sqrt(mean x^2 + epsilon); with g = dy w and n = width,
// dx = r (g - x r^2 (g . x) / n), dw = the sum over rows of dy x r. A block takes one row.

template <class Input>
DEVICE void norm_forward(real* y, float* inverse, const Input* x, const float* weight, float epsilon,
                         Rows rows) {
    size_t start = row_start(rows, blockIdx.x);
    float squares = 0.0f;
    for (int i = threadIdx.x; i < rows.width; i += blockDim.x) {
        float number = load(x[start + i]);
        squares += number * number;
    }
    float r = 1.0f / sqrtf(block_sum(squares) / rows.width + epsilon);
    for (int i = threadIdx.x; i < rows.width; i += blockDim.x)
        put(y + start + i, load(x[start + i]) * r * weight[i]);
    if (threadIdx.x == 0) inverse[blockIdx.x] = r;
}

// The correction x (r^2 (g . x) / n) of a row, without the x.
template <class Input>
DEVICE float norm_correction(const Input* x, const real* grad_y, float r, const float* weight,
                             int width) {
    float product = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        product += load(grad_y[i]) * weight[i] * load(x[i]);
    return r * r * block_sum(product) / width;
}

extern "C" __global__ void norm_stream(real* y, float* inverse, const float* x, const float* weight,
                                       float epsilon, int width) {
    Rows rows = {1, width, width, 0};
    norm_forward(y, inverse, x, weight, epsilon, rows);
}

extern "C" __global__ void norm_heads(real* y, float* inverse, const real* x, const float* weight,
                                      float epsilon, int heads, int width, int stride, int offset) {
    Rows rows = {heads, width, stride, offset};
    norm_forward(y, inverse, x, weight, epsilon, rows);
}

// Adds dx to the gradient of the stream.
extern "C" __global__ void norm_stream_backward(float* grad_x, const real* grad_y, const float* x,
                                                const float* inverse, const float* weight,
                                                int width) {
    size_t start = (size_t)blockIdx.x * width;
    float r = inverse[blockIdx.x];
    float correction = norm_correction(x + start, grad_y + start, r, weight, width);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float g = load(grad_y[start + i]) * weight[i];
        grad_x[start + i] += r * (g - x[start + i] * correction);
    }
}

// Turns dy into dx in its place.
extern "C" __global__ void norm_heads_backward(real* grad, const real* x, const float* inverse,
                                               const float* weight, int heads, int width, int stride,
                                               int offset) {
    Rows rows = {heads, width, stride, offset};
    size_t start = row_start(rows, blockIdx.x);
    float r = inverse[blockIdx.x];
    float correction = norm_correction(x + start, grad + start, r, weight, width);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float g = load(grad[start + i]) * weight[i];
        put(grad + start + i, r * (g - load(x[start + i]) * correction));
    }
}

// Sums over rows, in two steps: a thread takes one column (blockIdx.y) of the rows of one chunk
// (blockIdx.x), then columns_total adds the chunks in their order.

template <class Input>
DEVICE void columns_partial(float* partial, const real* grad_y, const Input* x, const float* inverse,
                            int count, int chunk, Rows rows) {
    int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= rows.width) return;
    int first = blockIdx.x * chunk, last = min(first + chunk, count);
    float sum = 0.0f;
    for (int row = first; row < last; row++) {
        size_t at = row_start(rows, row) + column;
        sum += load(grad_y[at]) * (load(x[at]) * inverse[row]);
    }
    partial[(size_t)blockIdx.x * rows.width + column] = sum;
}

extern "C" __global__ void norm_stream_weight(float* partial, const real* grad_y, const float* x,
                                              const float* inverse, int count, int chunk, int width) {
    Rows rows = {1, width, width, 0};
    columns_partial(partial, grad_y, x, inverse, count, chunk, rows);
}

extern "C" __global__ void norm_heads_weight(float* partial, const real* grad_y, const real* x,
                                             const float* inverse, int count, int chunk, int heads,
                                             int width, int stride, int offset) {
    Rows rows = {heads, width, stride, offset};
    columns_partial(partial, grad_y, x, inverse, count, chunk, rows);
}

extern "C" __global__ void bias_partial(float* partial, const real* grad_y, int count, int chunk,
                                        int width) {
    int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width) return;
    int first = blockIdx.x * chunk, last = min(first + chunk, count);
    float sum = 0.0f;
    for (int row = first; row < last; row++) sum += load(grad_y[(size_t)row * width + column]);
    partial[(size_t)blockIdx.x * width + column] = sum;
}

// gradient += the sum of the chunks.
extern "C" __global__ void columns_total(float* gradient, const float* partial, int chunks,
                                         int width) {
    int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0.0f;
    for (int chunk = 0; chunk < chunks; chunk++) sum += partial[(size_t)chunk * width + column];
    gradient[column] += sum;
}
