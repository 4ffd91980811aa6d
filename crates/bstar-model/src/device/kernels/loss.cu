// Cross-entropy of rows of logits, and the sums that training reports.

// losses = log sum exp(logits) - logits[target], in nats; where `gradient` is not null it becomes
// scale (softmax(logits) - onehot(target)), which may lie where the logits lie. A block takes one row.
extern "C" __global__ void cross_entropy(real* gradient, float* losses, const float* logits,
                                         const unsigned* targets, float scale, int vocabulary) {
    const float* row = logits + (size_t)blockIdx.x * vocabulary;
    unsigned target = targets[blockIdx.x];
    float chosen = row[target];
    float largest = MINUS_INFINITY;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) largest = fmaxf(largest, row[i]);
    largest = block_max(largest);
    float total = 0.0f;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) total += expf(row[i] - largest);
    total = block_sum(total);
    if (threadIdx.x == 0) losses[blockIdx.x] = logf(total) + (largest - chosen);
    if (gradient == nullptr) return;
    real* to = gradient + (size_t)blockIdx.x * vocabulary;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
        float share = expf(row[i] - largest) * (scale / total);
        put(to + i, i == (int)target ? share - scale : share);
    }
}

// sum += scale times the sum of x; one block.
extern "C" __global__ void add_losses(double* sum, const float* x, float scale, size_t count) {
    double own = 0.0;
    for (size_t i = threadIdx.x; i < count; i += blockDim.x) own += x[i];
    own = block_sum(own);
    if (threadIdx.x == 0) *sum += own * scale;
}

// partial[block] = the sum of squares of the block's share.
extern "C" __global__ void squares(double* partial, const float* x, size_t count) {
    double own = 0.0;
    for (size_t i = thread_number(); i < count; i += (size_t)gridDim.x * blockDim.x)
        own += (double)x[i] * x[i];
    own = block_sum(own);
    if (threadIdx.x == 0) partial[blockIdx.x] = own;
}

// sum = the sum of `count` partial sums; one block.
extern "C" __global__ void add_partial(double* sum, const double* partial, int count) {
    double own = 0.0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) own += partial[i];
    own = block_sum(own);
    if (threadIdx.x == 0) *sum = own;
}
